"""Weighted metrics against those of scikit-learn, and intervals against resampling one at a time."""

import numpy as np
import pytest
from sklearn import metrics

from vdm_pipeline.stages.evaluation.metrics import bootstrap
from vdm_pipeline.stages.evaluation.metrics.bootstrap import bootstrap_intervals, weighted_metrics
from vdm_pipeline.stages.evaluation.metrics.labels import calibration_error

KINDS = [(2, 8), (2, 1), (4, 8), (4, 1)]
"""Number of classes, and digits of the probabilities: one digit gives ties."""


def noisy(n: int, classes: int, digits: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    scores = np.eye(classes)[truth] + rng.standard_normal((n, classes))
    probabilities = np.round(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), digits)
    predicted = np.where(rng.random(n) < 0.1, rng.integers(0, classes, n), probabilities.argmax(1))
    return truth, predicted, probabilities


def sklearn_metrics(
    truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    classes = probabilities.shape[1]
    one_hot, average = np.eye(classes)[truth], "binary" if classes == 2 else "macro"
    ranked = [1] if classes == 2 else range(classes)
    binary = [((truth == label).astype(int), probabilities[:, label]) for label in ranked]
    rows = np.repeat(np.arange(len(truth)), weights.astype(int))
    confidence = probabilities[rows, predicted[rows]]
    return {
        "accuracy": metrics.accuracy_score(truth, predicted, sample_weight=weights),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted, sample_weight=weights),
        "f1": metrics.f1_score(truth, predicted, average=average, sample_weight=weights),
        "mcc": metrics.matthews_corrcoef(truth, predicted, sample_weight=weights),
        "roc_auc": np.mean([metrics.roc_auc_score(y, p, sample_weight=weights) for y, p in binary]),
        "average_precision": np.mean(
            [metrics.average_precision_score(y, p, sample_weight=weights) for y, p in binary]
        ),
        "ece": calibration_error(confidence, predicted[rows] == truth[rows]),
        "brier": np.average(((probabilities - one_hot) ** 2).sum(1), weights=weights)
        / (2 if classes == 2 else 1),
    }


@pytest.mark.parametrize(("classes", "digits"), KINDS)
def test_weighted_metrics_are_those_of_scikit_learn(classes, digits):
    data = noisy(150, classes, digits, 0)
    weights = np.random.default_rng(1).integers(0, 4, (5, 150)).astype(float)
    weights[0] = 1
    result = weighted_metrics(*data, 15, weights)
    for row, weight in enumerate(weights):
        expected = sklearn_metrics(*data, weight)
        assert {name: values[row] for name, values in result.items()} == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "digits"), [(2, 1), (4, 8)])
def test_intervals_against_resampling_one_at_a_time(classes, digits):
    truth, predicted, probabilities = noisy(120, classes, digits, 2)
    rng, values = np.random.default_rng(3), []
    while len(values) < 400:
        rows = rng.integers(0, len(truth), len(truth))
        if len(np.unique(truth[rows])) == classes:
            values.append(
                sklearn_metrics(truth[rows], predicted[rows], probabilities[rows], np.ones(len(rows)))
            )
    intervals = bootstrap_intervals(truth, predicted, probabilities, 15, 4000, 0)
    ece = sklearn_metrics(truth, predicted, probabilities, np.ones(len(truth)))["ece"]
    for name, bounds in intervals.items():
        resampled = np.array([value[name] for value in values])
        if name == "ece":
            resampled = resampled - (resampled.mean() - ece)
            assert bounds[0] <= ece <= bounds[1]
        assert bounds == pytest.approx(np.percentile(resampled, (2.5, 97.5)), abs=0.03), name


@pytest.mark.parametrize("name", ["accuracy", "f1", "brier", "balanced_accuracy"])
def test_intervals_cover_the_truth_at_their_level(name):
    """A labeller that predicts nearly all positive: its accuracy depends on the share of positives."""
    rng, covered = np.random.default_rng(0), 0
    rates = np.array([0.1, 0.97])  # of correct predictions, by class
    whole_truth = (np.arange(200_000) % 8 < 5).astype(int)

    def labelled(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        predicted = np.where(rng.random(len(truth)) < rates[truth], truth, 1 - truth)
        p = np.where(predicted == 1, 0.9, 0.1)
        return truth, predicted, np.stack([1 - p, p], axis=1)

    true_value = sklearn_metrics(*labelled(whole_truth), np.ones(len(whole_truth)))[name]
    for seed in range(100):
        low, high = bootstrap_intervals(*labelled(rng.choice(whole_truth, 250)), 15, 200, seed)[name]
        covered += low <= true_value <= high
    # Of 100 at 95 %. Resampling within classes would cover the accuracy only half of the time.
    assert covered >= 88


def test_rare_class_is_in_every_resample():
    truth = np.array([1] + [0] * 60)
    p = np.linspace(0.1, 0.9, 61)
    intervals = bootstrap_intervals(truth, (p > 0.5).astype(int), np.stack([1 - p, p], axis=1), 15, 100, 0)
    assert np.isfinite(intervals["roc_auc"]).all()


def test_block_size_does_not_change_the_intervals_much(monkeypatch):
    data = noisy(100, 2, 8, 4)
    whole = bootstrap_intervals(*data, 15, 1000, 0)
    monkeypatch.setattr(bootstrap, "MAX_WEIGHTS", 1000)
    parts = bootstrap_intervals(*data, 15, 1000, 0)
    assert all(parts[name] == pytest.approx(bounds, abs=0.03) for name, bounds in whole.items())


def test_one_class_alone_has_no_ranking_metrics():
    truth, predicted, probabilities = noisy(50, 2, 8, 5)
    intervals = bootstrap_intervals(np.ones_like(truth), predicted, probabilities, 15, 50, 0)
    assert "roc_auc" not in intervals
    assert "average_precision" not in intervals
    assert intervals["accuracy"][0] < intervals["accuracy"][1]


def test_perfect_labels_have_intervals_of_width_0():
    truth = np.arange(20) % 2
    intervals = bootstrap_intervals(truth, truth, np.eye(2)[truth], 15, 50, 0)
    assert intervals["roc_auc"] == intervals["accuracy"] == intervals["mcc"] == [1.0, 1.0]
    assert intervals["ece"] == intervals["brier"] == [0.0, 0.0]
