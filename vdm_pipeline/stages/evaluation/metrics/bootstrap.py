"""Bootstrap intervals of label metrics, all resamples at once: a resample is a row of weights, how often each image was drawn."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 1_000_000
"""Weights in memory at a time: resamples times images."""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def intervals(
    truth: Labels, predicted: Labels, probabilities: Floats, bins: int, resamples: int, seed: int
) -> dict[str, list[float]]:
    """95 % percentile intervals by metric, over images drawn with replacement; a draw that lacks a class is drawn again.

    ``truth`` and ``predicted`` are ``[n]``, ``probabilities`` ``[n, classes]``. Metrics that need both a positive and a
    negative image are left out where there is one class alone. The calibration error of a resample is larger on average than
    that of its sample; its interval is shifted back by that difference.
    """
    values: dict[str, list[Floats]] = {}
    for weights in _draws(truth, resamples, seed):
        for name, value in weighted_metrics(truth, predicted, probabilities, bins, weights).items():
            values.setdefault(name, []).append(value)
    found = {name: np.percentile(np.concatenate(parts), (2.5, 97.5)) for name, parts in values.items()}
    plain = weighted_metrics(truth, predicted, probabilities, bins, np.ones((1, len(truth))))["ece"][0]
    found["ece"] = np.maximum(found["ece"] - (np.concatenate(values["ece"]).mean() - plain), 0)
    return {name: bounds.tolist() for name, bounds in found.items()}


def _draws(truth: Labels, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights ``[some resamples, n]``, block by block."""
    rng = np.random.default_rng(seed)
    n, classes = len(truth), np.eye(int(truth.max()) + 1)[:, np.unique(truth)][truth]
    size = max(1, BLOCK // n)
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
    """Each metric under each row of ``weights`` ``[r, n]``: arrays ``[r]``. With weights of one they are scikit-learn's own."""
    classes = probabilities.shape[1]
    matrix = _sums(weights, truth * classes + predicted, classes**2).reshape(-1, classes, classes)
    one_hot = np.eye(classes)[truth]
    total = weights.sum(1)
    confidence = probabilities[np.arange(len(truth)), predicted]
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = _sums(weights * ((predicted == truth) - confidence), place, bins)
    report = {
        "accuracy": np.trace(matrix, axis1=1, axis2=2) / total,
        "balanced_accuracy": _recalls(matrix).mean(1),
        "f1": _f1(matrix)[:, 1] if classes == 2 else _f1(matrix).mean(1),
        "mcc": _mcc(matrix),
        "ece": np.abs(gaps).sum(1) / total,
        "brier": weights @ ((probabilities - one_hot) ** 2).sum(1) / total / (2 if classes == 2 else 1),
    }
    if len(np.unique(truth)) == classes:
        ranked = [1] if classes == 2 else range(classes)
        curves = [_rank(truth == label, probabilities[:, label], weights) for label in ranked]
        report["roc_auc"] = np.mean([auc for auc, _ in curves], axis=0)
        report["average_precision"] = np.mean([precision for _, precision in curves], axis=0)
    return report


def _sums(weights: Floats, place: Labels, places: int) -> Floats:
    """Weights summed by place, ``[r, places]``."""
    return weights @ np.eye(places)[place]


def _recalls(matrix: Floats) -> Floats:
    """Recall of the classes that are there, ``[r, classes there]``."""
    counts = matrix.sum(2)
    there = counts[0] > 0
    return np.diagonal(matrix, axis1=1, axis2=2)[:, there] / counts[:, there]


def _f1(matrix: Floats) -> Floats:
    right = np.diagonal(matrix, axis1=1, axis2=2)
    both = matrix.sum(1) + matrix.sum(2)
    return np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)


def _mcc(matrix: Floats) -> Floats:
    """Matthews' coefficient for any number of classes (Gorodkin, 2004); 0 where it is undefined, as scikit-learn has it."""
    total, right = matrix.sum((1, 2)), np.trace(matrix, axis1=1, axis2=2)
    true, called = matrix.sum(2), matrix.sum(1)
    above = right * total - (true * called).sum(1)
    below = np.sqrt((total**2 - (called**2).sum(1)) * (total**2 - (true**2).sum(1)))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _rank(positive: NDArray[np.bool_], scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """ROC AUC (ties count half) and average precision under each row of weights."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    found = np.add.reduceat(np.where(positive, weights, 0)[:, order], starts, axis=1)
    false = np.add.reduceat(np.where(positive, 0, weights)[:, order], starts, axis=1)
    all_found, all_false = found.cumsum(1), false.cumsum(1)
    auc = (found * (all_false[:, -1:] - all_false + false / 2)).sum(1) / (all_found[:, -1] * all_false[:, -1])
    reached = all_found + all_false
    precision = np.divide(all_found, reached, out=np.zeros_like(reached), where=reached > 0)
    return auc, (found * precision).sum(1) / all_found[:, -1]
