"""How good labels are, beside what a constant answer would score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

BINS = 15
"""Bins of the expected calibration error (Guo et al., 2017)."""


def label_report(table: "pd.DataFrame", class_names: Sequence[str], resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Metrics of every split and overall; ``uncalibrated`` repeats them for plain argmax."""
    probabilities = table[[f"p_{name}" for name in class_names]].to_numpy(np.float64)
    truth = table["ground_truth"].to_numpy()
    report: dict[str, Any] = {}
    for split in (*table["split"].unique(), "overall"):
        rows = np.ones(len(table), bool) if split == "overall" else (table["split"] == split).to_numpy()
        scores = score(truth[rows], probabilities[rows], class_names)
        scores["roc_auc_ci95"] = auc_interval(truth[rows], probabilities[rows], resamples, seed) if len(class_names) == 2 else None
        report[split] = scores | {"uncalibrated": dict(scores)}
    return report


def score(truth: NDArray[np.int64], probabilities: NDArray[np.float64], class_names: Sequence[str]) -> dict[str, Any]:
    """Accuracy and its kin of argmax labels; F1 and AUC are those of class 1, or macro means of more than two classes.

    ``truth`` is ``[n]``, ``probabilities`` ``[n, classes]``. What is undefined (an AUC with one class present) is None.
    """
    from sklearn import metrics

    predicted = probabilities.argmax(1)
    binary = len(class_names) == 2
    every = np.arange(len(class_names))
    matrix = metrics.confusion_matrix(truth, predicted, labels=every)
    defined = len(np.unique(truth)) == len(class_names)
    ranked = probabilities[:, 1] if binary else probabilities
    one_hot = np.eye(len(class_names))[truth]
    return {
        "n": len(truth),
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "majority_baseline_accuracy": float(np.bincount(truth).max() / len(truth)),
        "balanced_accuracy": float(np.mean([matrix[c, c] / matrix[c].sum() for c in every if matrix[c].sum()])),
        "f1": float(
            metrics.f1_score(truth, predicted, average="binary" if binary else "macro", labels=None if binary else every, zero_division=0)
        ),
        "roc_auc": float(metrics.roc_auc_score(truth, ranked, multi_class="ovr")) if defined else None,
        "ece": calibration_error(probabilities.max(1), predicted == truth),
        "brier": float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1)) / (2 if binary else 1)),
        "confusion_matrix": _named_matrix(matrix, class_names),
    }


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: mean of ``|accuracy - confidence|`` over 15 equal bins, weighted by their counts."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right.astype(float) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def auc_interval(truth: NDArray[np.int64], probabilities: NDArray[np.float64], resamples: int, seed: int) -> list[float] | None:
    """95 % bootstrap interval of the binary AUC, resampled within the classes; None if a class is absent.

    AUC is the share of (positive, negative) pairs in the right order, ties counted half, so a resample is a mean over
    the pairs' matrix weighted by how often each image was drawn.
    """
    positive, negative = probabilities[truth == 1, 1], probabilities[truth == 0, 1]
    if not len(positive) or not len(negative):
        return None
    rng = np.random.default_rng(seed)
    drawn_positive = rng.multinomial(len(positive), np.full(len(positive), 1 / len(positive)), resamples)
    drawn_negative = rng.multinomial(len(negative), np.full(len(negative), 1 / len(negative)), resamples)
    order = np.sort(negative)
    values = np.zeros(resamples)
    below = np.concatenate([np.zeros((resamples, 1)), np.cumsum(drawn_negative[:, np.argsort(negative)], axis=1)], axis=1)
    for side in ("left", "right"):
        values += np.einsum("rp,rp->r", drawn_positive, below[:, np.searchsorted(order, positive, side)]) / 2
    values /= len(positive) * len(negative)
    return [float(v) for v in np.percentile(values, (2.5, 97.5))]


def _named_matrix(matrix: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Any]:
    if len(class_names) == 2:
        (tn, fp), (fn, tp) = matrix.tolist()
        return {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    return {true: dict(zip(class_names, row, strict=True)) for true, row in zip(class_names, matrix.tolist(), strict=True)}
