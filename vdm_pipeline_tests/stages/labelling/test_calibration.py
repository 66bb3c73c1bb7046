"""Calibration against scikit-learn's logistic regression, against brute force, and on what BiomedCLIP really said."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.evaluation.metrics.labels import calibration_error, score
from vdm_pipeline.stages.labelling.calibration import calibrate, fit_platt, match_prior, softmax

SCORES = Path(os.environ.get("VDM_REAL_DATA") or "none").parent / "biomedclip_test_scores.csv"
TWO = (("healthy",), ("ill",))


def settings_of(**values) -> Labelling:
    base = {
        "model": {"id": "embedded:clip", "licence": "MIT"},
        "templates": ("{phrase}",),
        "phrases": TWO,
        "calibration": "platt",
    }
    return Labelling.model_validate(base | values)


def noisy(n: int, classes: int, seed: int, shift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that rank well, are four times too sure, and lean to the last class."""
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(0, classes, n))
    logits = np.eye(classes)[truth] * 1.5 + rng.standard_normal((n, classes))
    logits[:, -1] += shift
    return 4 * logits, truth


def test_two_classes_are_platts_sigmoid():
    logits, truth = noisy(4000, 2, 0)
    scale, bias = fit_platt(logits, truth)
    peer = LogisticRegression(C=1e9).fit((logits[:, 1] - logits[:, 0])[:, None], truth)
    assert scale == pytest.approx(peer.coef_[0, 0], rel=0.02)
    assert bias[1] - bias[0] == pytest.approx(peer.intercept_[0], rel=0.02)


def test_three_classes_have_no_better_scale_and_bias():
    logits, truth = noisy(600, 3, 1)
    scale, bias = fit_platt(logits, truth)

    def loss(scale: float, bias: np.ndarray) -> float:
        return -np.log(softmax(scale * logits + bias)[np.arange(len(truth)), truth]).mean()

    best = loss(scale, bias)
    for step in (0.02, -0.02):
        assert loss(scale + step, bias) > best
        for index in range(3):
            assert loss(scale, bias + 3 * step * np.eye(3)[index]) > best


def test_classes_that_separate_stay_finite():
    logits = np.array([[5.0, 0.0]] * 10 + [[0.0, 5.0]] * 10)
    found = calibrate(settings_of(), logits, np.repeat([0, 1], 10)).probabilities(logits)
    assert found[-1, 1] == pytest.approx(11 / 12, abs=1e-3)


def test_calibration_mends_what_argmax_spoils():
    logits, truth = noisy(4000, 2, 2)
    held_out, answers = noisy(4000, 2, 3)
    calibration = calibrate(settings_of(decision="balanced_accuracy"), logits, truth)
    probabilities = calibration.probabilities(held_out)
    labels = calibration.decide(probabilities)
    plain = balanced_accuracy_score(answers, held_out.argmax(1))
    assert balanced_accuracy_score(answers, labels) > plain + 0.1
    assert calibration_error(probabilities.max(1), probabilities.argmax(1) == answers) < 0.03


def test_none_is_plain_argmax():
    logits, truth = noisy(100, 3, 4)
    calibration = calibrate(settings_of(calibration="none", phrases=(*TWO, ("other",))), logits, truth)
    np.testing.assert_allclose(calibration.probabilities(logits), softmax(logits))
    np.testing.assert_array_equal(calibration.decide(softmax(logits)), logits.argmax(1))


def test_prior_is_matched_and_no_label_looked_at():
    logits, truth = noisy(500, 3, 5)
    wanted = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(softmax(logits + match_prior(logits, wanted)).mean(0), wanted, atol=1e-4)
    settings = settings_of(calibration="prior", prior=tuple(wanted), phrases=(*TWO, ("other",)))
    assert calibrate(settings, logits, truth) == calibrate(settings, logits, np.zeros_like(truth))


def test_decision_for_f1_is_the_best_cut_there_is():
    logits, truth = noisy(300, 2, 6)
    calibration = calibrate(settings_of(decision="f1"), logits, truth)
    probabilities = calibration.probabilities(logits)
    best = max(f1_score(truth, probabilities[:, 1] >= cut) for cut in probabilities[:, 1])
    assert f1_score(truth, calibration.decide(probabilities)) == pytest.approx(best)


@pytest.mark.parametrize("wanted", [0.8, 0.95, 1.0])
def test_decision_for_sensitivity_finds_enough_and_calls_no_more_than_needed(wanted):
    logits, truth = noisy(300, 2, 7)
    calibration = calibrate(settings_of(decision="sensitivity", sensitivity=wanted), logits, truth)
    labels = calibration.decide(calibration.probabilities(logits))
    found = labels[truth == 1].mean()
    assert wanted <= found < wanted + 2 / (truth == 1).sum()


def test_balanced_decision_of_three_classes():
    logits, truth = noisy(3000, 3, 8)
    keep = (truth != 2) | (np.arange(3000) % 10 == 0)
    logits, truth = logits[keep], truth[keep]
    plain = calibrate(settings_of(phrases=(*TWO, ("other",))), logits, truth)
    balanced = calibrate(settings_of(decision="balanced_accuracy", phrases=(*TWO, ("other",))), logits, truth)
    probabilities = plain.probabilities(logits)
    assert (
        balanced_accuracy_score(truth, balanced.decide(probabilities))
        > balanced_accuracy_score(truth, plain.decide(probabilities)) + 0.05
    )


def test_val_without_a_class_is_a_sentence():
    with pytest.raises(
        PipelineError,
        match='learns from the val split, which holds no image of class 1; set "prior" or "none"',
    ):
        calibrate(settings_of(), np.zeros((4, 2)), np.zeros(4, int))


@pytest.mark.real_data
@pytest.mark.skipif(
    not SCORES.is_file(), reason="no biomedclip_test_scores.csv beside the archive that VDM_REAL_DATA names"
)
def test_biomedclip_as_published_and_cross_fitted():
    table = pd.read_csv(SCORES)
    truth, p = table["ground_truth"].to_numpy(), table["p_pneumonia"].to_numpy()
    probabilities = np.stack([1 - p, p], axis=1)
    plain = score(truth, probabilities.argmax(1), probabilities, ("normal", "pneumonia"), resamples=20)
    assert (plain["roc_auc"], plain["accuracy"]) == pytest.approx((0.856, 0.599), abs=5e-4)
    assert (plain["balanced_accuracy"], plain["f1"]) == pytest.approx((0.674, 0.539), abs=5e-4)
    assert plain["ece"] == pytest.approx(0.30, abs=0.005)
    logits, fitted, labels = np.log(probabilities), np.zeros_like(probabilities), np.zeros_like(truth)
    for others, fold in StratifiedKFold(5, shuffle=True, random_state=0).split(logits, truth):
        calibration = calibrate(settings_of(decision="balanced_accuracy"), logits[others], truth[others])
        fitted[fold] = calibration.probabilities(logits[fold])
        labels[fold] = calibration.decide(fitted[fold])
    found = score(truth, labels, fitted, ("normal", "pneumonia"), resamples=20)
    assert found["balanced_accuracy"] >= 0.765
    assert calibration_error(fitted.max(1), fitted.argmax(1) == truth) <= 0.05
    assert found["ece"] <= 0.05
