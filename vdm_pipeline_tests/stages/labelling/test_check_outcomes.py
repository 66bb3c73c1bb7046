"""What can be found wrong, on what must pass and on what must not."""

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.stages.evaluation.metrics.labels import score
from vdm_pipeline.stages.labelling.calibration import Calibration
from vdm_pipeline.stages.labelling.check_outcomes import (
    balanced,
    better_than_chance,
    calibrated,
    disjoint,
    every_class_predicted,
    pure,
    sound_table,
)

NAMES = ("normal", "pneumonia")
NAN = float("nan")


CUT = Calibration("platt", "balanced_accuracy", 1.0, (0.0, 0.0), (0.4, 0.6))
EXPECTED = pd.DataFrame(
    {
        "image_id": ["a", "b", "c"],
        "ground_truth": [0, 1, 1],
        "ground_truth_label": ["normal", "pneumonia", "pneumonia"],
        "split": ["train", "val", "test"],
    }
)


def table(**changes: list) -> pd.DataFrame:
    """A sound table with a cut at .6."""
    good = {
        "auto_label": ["normal", "pneumonia", "normal"],
        "confidence_score": [0.9, 0.7, 0.45],
        "p_normal": [0.9, 0.3, 0.45],
        "p_pneumonia": [0.1, 0.7, 0.55],
        "zero_shot_p_normal": [0.5, 0.5, 0.5],
        "zero_shot_p_pneumonia": [0.5, 0.5, 0.5],
    }
    return EXPECTED.assign(**(good | changes))


def test_every_class_must_be_predicted_and_none_nearly_always():
    good = every_class_predicted(["pneumonia", "normal", "normal"], NAMES, 0.95)
    assert good.passed
    assert good.figures == {"n_normal": 2, "n_pneumonia": 1}
    bad = every_class_predicted(["normal"] * 3, NAMES, 0.95)
    assert not bad.passed
    assert bad.sentence == "never predicted: pneumonia"
    lopsided = every_class_predicted(["normal"] * 97 + ["pneumonia"] * 3, NAMES, 0.95)
    assert not lopsided.passed
    assert (
        lopsided.sentence == "normal is given to 97.0% of the images, more than checks.max_class_share = 0.95"
    )
    assert not every_class_predicted([], NAMES, 0.95).passed


def test_the_prototypes_bug_is_stopped():
    """It looked for the class's name in the winning prompt, and both prompts had it."""
    prompts = ("a chest X-ray with no evidence of pneumonia", "a chest X-ray with pneumonia")
    labels = ["pneumonia" if "pneumonia" in prompts[winner] else "normal" for winner in (0, 1, 0, 1)]
    assert not every_class_predicted(labels, NAMES, 0.95).passed


def test_sound_table_passes():
    assert sound_table(table(), EXPECTED, NAMES, CUT).passed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_id": ["a", "b", "a"]}, "1 repeated ids"),
        ({"image_id": ["b", "a", "c"]}, "image_id is not the archive's, in its order"),
        ({"ground_truth": [1, 0, 1]}, "ground_truth is not the archive's"),
        ({"ground_truth_label": ["normal"] * 3}, "ground_truth_label is not the archive's"),
        ({"split": ["train"] * 3}, "split is not the archive's"),
        ({"auto_label": ["normal", "Normal", NAN]}, "2 labels that are no class"),
        ({"confidence_score": [0.5, NAN, 0.5]}, "1 values of confidence_score outside [0, 1]"),
        ({"confidence_score": [1.01, -0.01, 0.5]}, "2 values of confidence_score outside"),
        ({"p_pneumonia": [float("inf"), NAN, 0.5]}, "2 values of p_pneumonia outside"),
        ({"zero_shot_p_normal": [0.5, NAN, 0.5]}, "1 values of zero_shot_p_normal outside"),
        ({"p_pneumonia": [0.1, 0.7, 0.99]}, "1 rows whose p_normal and so on do not add up to 1"),
        (
            {"auto_label": ["normal", "pneumonia", "pneumonia"], "confidence_score": [0.9, 0.7, 0.55]},
            "1 labels that are not what the prob",
        ),
        (
            {"auto_label": ["normal", "normal", "normal"], "confidence_score": [0.9, 0.3, 0.45]},
            "1 labels that are not what the probabilities",
        ),
        (
            {"confidence_score": [0.1, 0.7, 0.45]},
            "1 values of confidence_score that are not the label's probability",
        ),
    ],
)
def test_damaged_table_fails(changes, sentence):
    finding = sound_table(table(**changes), EXPECTED, NAMES, CUT)
    assert not finding.passed
    assert sentence in finding.sentence


@pytest.mark.parametrize("rows", [slice(0, 2), [0, 1, 2, 2]])
def test_a_table_of_another_length_fails(rows):
    finding = sound_table(table().iloc[rows], EXPECTED, NAMES, CUT)
    assert not finding.passed
    assert f"{len(table().iloc[rows])} rows for 3 images" in finding.sentence


def test_labels_of_one_class_alone_cannot_be_shown_to_beat_chance():
    truth = np.ones(100, int)
    p = np.linspace(0.4, 0.99, 100)
    found = better_than_chance(score(truth, (p > 0.5).astype(int), np.stack([1 - p, p], 1), NAMES), 2)
    assert not found.passed
    assert "test lacks a class" in found.sentence


@pytest.mark.parametrize(("skill", "passed"), [(0.0, False), (3.0, True)])
def test_random_scores_are_not_better_than_chance(skill, passed):
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 2
    p = 1 / (1 + np.exp(-(skill * (truth - 0.5) + rng.standard_normal(400))))
    found = better_than_chance(score(truth, (p > 0.5).astype(int), np.stack([1 - p, p], 1), NAMES), 2)
    assert found.passed is passed
    assert ("not clearly" not in found.sentence) is passed


def test_calibration_error_has_a_limit():
    assert calibrated({"ece": 0.05}, 0.05).passed
    assert not calibrated({"ece": 0.051}, 0.05).passed
    assert not calibrated({"ece": NAN}, 0.05).passed


def test_leaked_and_repeated_images_are_found():
    assert disjoint([b"1", b"2"], [b"3"]).passed
    assert disjoint([b"1", b"2"], [b"2"]).figures == {"leaked": 1, "repeated": 0}
    assert disjoint([b"1", b"1"], [b"2"]).figures == {"leaked": 0, "repeated": 1}
    assert not disjoint([b"1", b"2"], [b"2"]).passed
    assert not disjoint([b"1", b"1"], [b"2"]).passed


def test_purity_has_a_limit():
    assert pure(["a", "a", "b", "b"], ["a", "a", "b", "a"], 0.75).passed
    assert not pure(["a", "a", "b", "b"], ["a", "a", "b", "a"], 0.76).passed
    assert not pure([], [], 0.5).passed


@pytest.mark.parametrize(
    ("labels", "passed"),
    [
        (["normal", "pneumonia"] * 3, True),
        (["normal"] * 3 + ["pneumonia"] * 2, False),
        (["normal"] * 3, False),
        ([], False),
    ],
)
def test_balance(labels, passed):
    assert balanced(labels, NAMES).passed is passed
