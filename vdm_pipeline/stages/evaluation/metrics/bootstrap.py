"""Bootstrap intervals of label metrics, computed for many resamples at once.

A resample is a row of weights: how often it contains each image.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAX_WEIGHTS = 1_000_000
"""Weights in memory at a time: resamples times images."""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def bootstrap_intervals(
    truth: Labels, predicted: Labels, probabilities: Floats, bins: int, resamples: int, seed: int
) -> dict[str, list[float]]:
    """95 % percentile intervals of each metric, over images drawn with replacement.

    ``truth`` and ``predicted`` are ``[n]``, ``probabilities`` ``[n, classes]``. A resample that lacks a
    class is replaced by another one. With images of one class only, ranking metrics are left out.

    The calibration error of a resample is on average larger than that of its sample. Its interval is shifted
    back by this difference.
    """
    values: dict[str, list[Floats]] = {}
    for weights in _resamples(truth, resamples, seed):
        for name, value in weighted_metrics(truth, predicted, probabilities, bins, weights).items():
            values.setdefault(name, []).append(value)
    intervals = {name: np.percentile(np.concatenate(parts), (2.5, 97.5)) for name, parts in values.items()}
    unweighted = np.ones((1, len(truth)))
    ece = weighted_metrics(truth, predicted, probabilities, bins, unweighted)["ece"][0]
    intervals["ece"] = np.maximum(intervals["ece"] - (np.concatenate(values["ece"]).mean() - ece), 0)
    return {name: bounds.tolist() for name, bounds in intervals.items()}


def _resamples(truth: Labels, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights ``[b, n]``, in blocks that fit memory."""
    rng = np.random.default_rng(seed)
    n, classes = len(truth), np.eye(int(truth.max()) + 1)[:, np.unique(truth)][truth]
    size = max(1, MAX_WEIGHTS // n)
    for start in range(0, resamples, size):
        weights = np.zeros((min(size, resamples - start), n))
        lacking = np.arange(len(weights))
        while len(lacking):
            weights[lacking] = rng.multinomial(n, np.full(n, 1 / n), len(lacking))
            lacking = np.flatnonzero((weights @ classes == 0).any(axis=1))
        yield weights


def weighted_metrics(
    truth: Labels, predicted: Labels, probabilities: Floats, bins: int, weights: Floats
) -> dict[str, Floats]:
    """Each metric under each row of ``weights`` ``[r, n]``: arrays ``[r]``.

    With weights of 1 the values are those of scikit-learn.
    """
    classes = probabilities.shape[1]
    matrix = _sum_by_bin(weights, truth * classes + predicted, classes**2).reshape(-1, classes, classes)
    one_hot = np.eye(classes)[truth]
    total = weights.sum(1)
    confidence = probabilities[np.arange(len(truth)), predicted]
    confidence_bin = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = _sum_by_bin(weights * ((predicted == truth) - confidence), confidence_bin, bins)
    metrics = {
        "accuracy": np.trace(matrix, axis1=1, axis2=2) / total,
        "balanced_accuracy": _recalls(matrix).mean(1),
        "f1": _f1(matrix)[:, 1] if classes == 2 else _f1(matrix).mean(1),
        "mcc": _mcc(matrix),
        "ece": np.abs(gaps).sum(1) / total,
        "brier": weights @ ((probabilities - one_hot) ** 2).sum(1) / total / (2 if classes == 2 else 1),
    }
    if len(np.unique(truth)) == classes:
        ranked = [1] if classes == 2 else range(classes)
        curves = [_auc_and_precision(truth == label, probabilities[:, label], weights) for label in ranked]
        metrics["roc_auc"] = np.mean([auc for auc, _ in curves], axis=0)
        metrics["average_precision"] = np.mean([precision for _, precision in curves], axis=0)
    return metrics


def _sum_by_bin(weights: Floats, bins: Labels, count: int) -> Floats:
    """Weights ``[r, n]`` summed by the bin of each column, ``[r, count]``."""
    return weights @ np.eye(count)[bins]


def _recalls(matrix: Floats) -> Floats:
    """Recall of the classes that occur, ``[r, classes that occur]``."""
    counts = matrix.sum(2)
    occurs = counts[0] > 0
    return np.diagonal(matrix, axis1=1, axis2=2)[:, occurs] / counts[:, occurs]


def _f1(matrix: Floats) -> Floats:
    """F1 of each class, ``[r, classes]``; 0 where it is undefined."""
    correct = np.diagonal(matrix, axis1=1, axis2=2)
    true_and_predicted = matrix.sum(1) + matrix.sum(2)
    return np.divide(
        2 * correct, true_and_predicted, out=np.zeros_like(correct), where=true_and_predicted > 0
    )


def _mcc(matrix: Floats) -> Floats:
    """Matthews' coefficient of any number of classes (Gorodkin, 2004).

    0 where it is undefined, as in scikit-learn.
    """
    total, correct = matrix.sum((1, 2)), np.trace(matrix, axis1=1, axis2=2)
    true, predicted = matrix.sum(2), matrix.sum(1)
    numerator = correct * total - (true * predicted).sum(1)
    denominator = np.sqrt((total**2 - (predicted**2).sum(1)) * (total**2 - (true**2).sum(1)))
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _auc_and_precision(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """ROC AUC (ties count half) and average precision under each row of weights, ``[r]`` each."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))  # of images with the same score
    true = np.add.reduceat(np.where(positive, weights, 0)[:, order], starts, axis=1)
    false = np.add.reduceat(np.where(positive, 0, weights)[:, order], starts, axis=1)
    all_true, all_false = true.cumsum(1), false.cumsum(1)
    auc = (true * (all_false[:, -1:] - all_false + false / 2)).sum(1) / (all_true[:, -1] * all_false[:, -1])
    retrieved = all_true + all_false
    precision = np.divide(all_true, retrieved, out=np.zeros_like(retrieved), where=retrieved > 0)
    return auc, (true * precision).sum(1) / all_true[:, -1]
