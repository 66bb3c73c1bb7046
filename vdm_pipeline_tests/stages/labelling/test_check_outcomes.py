"""Label checks on tables and scores that must pass, and on ones that must fail."""

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.stages.evaluation.metrics.labels import score
from vdm_pipeline.stages.labelling.calibration import Calibration
from vdm_pipeline.stages.labelling.check_outcomes import (
    better_than_chance,
    calibrated,
    every_class_predicted,
    sound_table,
)

NAMES = ("normal", "pneumonia")
NAN = float("nan")
CALIBRATION = Calibration("platt", "balanced_accuracy", 1.0, (0.0, 0.0), (0.4, 0.6))
EXPECTED = pd.DataFrame(
    {
        "image_id": ["a", "b", "c"],
        "ground_truth": [0, 1, 1],
        "ground_truth_label": ["normal", "pneumonia", "pneumonia"],
        "split": ["train", "val", "test"],
    }
)


def table(**changes: list) -> pd.DataFrame:
    """A sound table for a threshold of 0.6, with changed columns."""
    columns = {
        "auto_label": ["normal", "pneumonia", "normal"],
        "confidence_score": [0.9, 0.7, 0.45],
        "p_normal": [0.9, 0.3, 0.45],
        "p_pneumonia": [0.1, 0.7, 0.55],
        "zero_shot_p_normal": [0.5, 0.5, 0.5],
        "zero_shot_p_pneumonia": [0.5, 0.5, 0.5],
    }
    return EXPECTED.assign(**(columns | changes))


def test_every_class_must_be_predicted_and_none_nearly_always():
    good = every_class_predicted(["pneumonia", "normal", "normal"], NAMES, 0.95)
    assert good.passed
    assert good.figures == {"n_normal": 2, "n_pneumonia": 1}
    bad = every_class_predicted(["normal"] * 3, NAMES, 0.95)
    assert not bad.passed
    assert "pneumonia" in bad.sentence
    lopsided = every_class_predicted(["normal"] * 97 + ["pneumonia"] * 3, NAMES, 0.95)
    assert not lopsided.passed
    assert "normal" in lopsided.sentence and "97.0%" in lopsided.sentence
    assert "checks.max_class_share is 0.95" in lopsided.sentence
    assert not every_class_predicted([], NAMES, 0.95).passed


def test_the_prototypes_bug_fails():
    """The prototype searched the winning prompt for the class name, which both prompts contain."""
    prompts = ("a chest X-ray with no evidence of pneumonia", "a chest X-ray with pneumonia")
    labels = ["pneumonia" if "pneumonia" in prompts[winner] else "normal" for winner in (0, 1, 0, 1)]
    assert not every_class_predicted(labels, NAMES, 0.95).passed


def test_sound_table_passes():
    assert sound_table(table(), EXPECTED, NAMES, CALIBRATION).passed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_id": ["a", "b", "a"]}, "1 repeated ids"),
        ({"image_id": ["b", "a", "c"]}, "image_id differs from the archive"),
        ({"ground_truth": [1, 0, 1]}, "ground_truth differs from the archive"),
        ({"ground_truth_label": ["normal"] * 3}, "ground_truth_label differs from the archive"),
        ({"split": ["train"] * 3}, "split differs from the archive"),
        ({"auto_label": ["normal", "Normal", NAN]}, "2 labels that are not a class"),
        ({"confidence_score": [0.5, NAN, 0.5]}, "1 values of confidence_score outside [0, 1]"),
        ({"confidence_score": [1.01, -0.01, 0.5]}, "2 values of confidence_score outside"),
        ({"p_pneumonia": [float("inf"), NAN, 0.5]}, "2 values of p_pneumonia outside"),
        ({"zero_shot_p_normal": [0.5, NAN, 0.5]}, "1 values of zero_shot_p_normal outside"),
        ({"p_pneumonia": [0.1, 0.7, 0.99]}, "1 rows whose p_<class> columns do not add up to 1"),
        (
            {"auto_label": ["normal", "pneumonia", "pneumonia"], "confidence_score": [0.9, 0.7, 0.55]},
            "1 labels that differ",
        ),
        (
            {"auto_label": ["normal", "normal", "normal"], "confidence_score": [0.9, 0.3, 0.45]},
            "1 labels that differ",
        ),
        (
            {"confidence_score": [0.1, 0.7, 0.45]},
            "1 values of confidence_score that differ",
        ),
    ],
)
def test_damaged_table_fails(changes, sentence):
    outcome = sound_table(table(**changes), EXPECTED, NAMES, CALIBRATION)
    assert not outcome.passed
    assert sentence in outcome.sentence


@pytest.mark.parametrize("rows", [slice(0, 2), [0, 1, 2, 2]])
def test_a_table_of_another_length_fails(rows):
    outcome = sound_table(table().iloc[rows], EXPECTED, NAMES, CALIBRATION)
    assert not outcome.passed
    assert f"{len(table().iloc[rows])} rows for 3 images" in outcome.sentence


def test_a_test_split_of_one_class_cannot_show_that_labels_beat_chance():
    truth = np.ones(100, int)
    p = np.linspace(0.4, 0.99, 100)
    outcome = better_than_chance(score(truth, (p > 0.5).astype(int), np.stack([1 - p, p], 1), NAMES), 2)
    assert not outcome.passed
    assert "test lacks a class" in outcome.sentence


@pytest.mark.parametrize(("skill", "passed"), [(0.0, False), (3.0, True)])
def test_random_scores_are_not_better_than_chance(skill, passed):
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 2
    p = 1 / (1 + np.exp(-(skill * (truth - 0.5) + rng.standard_normal(400))))
    outcome = better_than_chance(score(truth, (p > 0.5).astype(int), np.stack([1 - p, p], 1), NAMES), 2)
    assert outcome.passed is passed
    assert ("not clearly" not in outcome.sentence) is passed


def test_calibration_error_has_a_maximum():
    assert calibrated({"ece": 0.05}, 0.05).passed
    assert not calibrated({"ece": 0.051}, 0.05).passed
    assert not calibrated({"ece": NAN}, 0.05).passed
