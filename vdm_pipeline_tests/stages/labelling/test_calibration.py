"""Calibration against scikit-learn's logistic regression, brute force, and real scores of BiomedCLIP."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.evaluation.metrics.labels import calibration_error, score
from vdm_pipeline.stages.labelling.calibration import Calibration, calibrate, fit_platt, match_prior, softmax
from vdm_pipeline_tests.real_data import REAL_ARCHIVE

SCORES = REAL_ARCHIVE.parent / "biomedclip_test_scores.csv"
TWO = (("healthy",), ("ill",))


def labelling(**values) -> Labelling:
    base = {
        "model": {"id": "embedded:clip", "licence": "MIT"},
        "templates": ("{phrase}",),
        "phrases": TWO,
        "calibration": "platt",
    }
    return Labelling.model_validate(base | values)


def calibrated(settings: Labelling, logits: np.ndarray, truth: np.ndarray) -> Calibration:
    """Calibrated on classes that are called a, b and c."""
    return calibrate(settings, logits, truth, "abc"[: logits.shape[1]])


def noisy(n: int, classes: int, seed: int, shift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that rank well, are four times too large, and favour the last class."""
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(0, classes, n))
    logits = np.eye(classes)[truth] * 1.5 + rng.standard_normal((n, classes))
    logits[:, -1] += shift
    return 4 * logits, truth


def test_two_classes_equal_logistic_regression():
    logits, truth = noisy(4000, 2, 0)
    scale, bias = fit_platt(logits, truth)
    peer = LogisticRegression(C=1e9).fit((logits[:, 1] - logits[:, 0])[:, None], truth)
    assert scale == pytest.approx(peer.coef_[0, 0], rel=0.02)
    assert bias[1] - bias[0] == pytest.approx(peer.intercept_[0], rel=0.02)


def test_three_classes_have_a_minimum_of_the_loss():
    logits, truth = noisy(600, 3, 1)
    scale, bias = fit_platt(logits, truth)

    def loss(scale: float, bias: np.ndarray) -> float:
        return -np.log(softmax(scale * logits + bias)[np.arange(len(truth)), truth]).mean()

    best = loss(scale, bias)
    for step in (0.02, -0.02):
        assert loss(scale + step, bias) > best
        for index in range(3):
            assert loss(scale, bias + 3 * step * np.eye(3)[index]) > best


def test_separable_classes_stay_finite():
    logits = np.array([[5.0, 0.0]] * 10 + [[0.0, 5.0]] * 10)
    probabilities = calibrated(labelling(), logits, np.repeat([0, 1], 10)).probabilities(logits)
    assert probabilities[-1, 1] == pytest.approx(11 / 12, abs=1e-3)


def test_calibration_improves_on_argmax():
    logits, truth = noisy(4000, 2, 2)
    held_out, answers = noisy(4000, 2, 3)
    calibration = calibrated(labelling(decision="balanced_accuracy"), logits, truth)
    probabilities = calibration.probabilities(held_out)
    labels = calibration.decide(probabilities)
    plain = balanced_accuracy_score(answers, held_out.argmax(1))
    assert balanced_accuracy_score(answers, labels) > plain + 0.1
    assert calibration_error(probabilities.max(1), probabilities.argmax(1) == answers) < 0.03


def test_none_is_argmax():
    logits, truth = noisy(100, 3, 4)
    calibration = calibrated(labelling(calibration="none", phrases=(*TWO, ("other",))), logits, truth)
    np.testing.assert_allclose(calibration.probabilities(logits), softmax(logits))
    np.testing.assert_array_equal(calibration.decide(softmax(logits)), logits.argmax(1))


def test_the_prior_is_matched_without_labels():
    logits, truth = noisy(500, 3, 5)
    prior = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(softmax(logits + match_prior(logits, prior)).mean(0), prior, atol=1e-4)
    settings = labelling(calibration="prior", prior=tuple(prior), phrases=(*TWO, ("other",)))
    assert calibrated(settings, logits, truth) == calibrated(settings, logits, np.zeros_like(truth))


def test_the_f1_threshold_is_the_best_one():
    logits, truth = noisy(300, 2, 6)
    calibration = calibrated(labelling(decision="f1"), logits, truth)
    probabilities = calibration.probabilities(logits)
    best = max(f1_score(truth, probabilities[:, 1] >= cut) for cut in probabilities[:, 1])
    assert f1_score(truth, calibration.decide(probabilities)) == pytest.approx(best)


@pytest.mark.parametrize("sensitivity", [0.8, 0.95, 1.0])
def test_the_sensitivity_threshold_is_the_highest_that_reaches_it(sensitivity):
    logits, truth = noisy(300, 2, 7)
    calibration = calibrated(labelling(decision="sensitivity", sensitivity=sensitivity), logits, truth)
    labels = calibration.decide(calibration.probabilities(logits))
    reached = labels[truth == 1].mean()
    assert sensitivity <= reached < sensitivity + 2 / (truth == 1).sum()


def test_balanced_accuracy_of_three_classes():
    logits, truth = noisy(3000, 3, 8)
    keep = (truth != 2) | (np.arange(3000) % 10 == 0)
    logits, truth = logits[keep], truth[keep]
    plain = calibrated(labelling(phrases=(*TWO, ("other",))), logits, truth)
    balanced = calibrated(labelling(decision="balanced_accuracy", phrases=(*TWO, ("other",))), logits, truth)
    probabilities = plain.probabilities(logits)
    decided, argmax = balanced.decide(probabilities), plain.decide(probabilities)
    assert balanced_accuracy_score(truth, decided) > balanced_accuracy_score(truth, argmax) + 0.05


def test_val_without_a_class_is_an_error():
    with pytest.raises(PipelineError, match=r"labelling\.calibration.*class b;"):
        calibrated(labelling(), np.zeros((4, 2)), np.zeros(4, int))


@pytest.mark.real_data
@pytest.mark.skipif(not SCORES.is_file(), reason="needs biomedclip_test_scores.csv beside VDM_REAL_DATA")
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
        calibration = calibrated(labelling(decision="balanced_accuracy"), logits[others], truth[others])
        fitted[fold] = calibration.probabilities(logits[fold])
        labels[fold] = calibration.decide(fitted[fold])
    scores = score(truth, labels, fitted, ("normal", "pneumonia"), resamples=20)
    assert scores["balanced_accuracy"] >= 0.765
    assert calibration_error(fitted.max(1), fitted.argmax(1) == truth) <= 0.05
    assert scores["ece"] <= 0.05
