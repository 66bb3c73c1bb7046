"""How good labels are, beside what a constant answer would score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.evaluation.metrics.bootstrap import intervals

if TYPE_CHECKING:
    import pandas as pd

BINS = 15
"""Bins of the expected calibration error (Guo et al., 2017)."""


def label_report(
    table: "pd.DataFrame", class_names: Sequence[str], resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Metrics of every split and overall, each with its 95 % interval under ``<metric>_ci95``.

    ``uncalibrated`` repeats them for the model's own probabilities and their argmax; the splits stand under their names.
    """
    truth, *used = as_used(table, class_names)
    own = plain(table, class_names)
    report: dict[str, Any] = {}
    for split in (*table["split"].unique(), "overall"):
        rows = np.ones(len(table), bool) if split == "overall" else (table["split"] == split).to_numpy()
        calibrated, uncalibrated = (
            score(truth[rows], predicted[rows], probabilities[rows], class_names, resamples, seed)
            for predicted, probabilities in (used, own)
        )
        report[split] = calibrated | {"uncalibrated": uncalibrated}
    return report


def true_labels_for(labelling: Labelling, captions_from: str) -> dict[str, str]:
    """What the true labels of each split were used for, so that a reader knows which figures flatter."""
    cut = "" if labelling.decision == "argmax" else f" and the cut for {labelling.decision}"
    val = {
        "none": "they measure",
        "prior": "they measure; the bias was learnt from the scores alone",
        "platt": f"they taught temperature and bias{cut}, so this split's calibrated figures flatter",
    }
    return {
        "train": "they chose and captioned the subset"
        if captions_from == "ground_truth"
        else "they measure, and chose nothing",
        "val": val[labelling.calibration],
        "test": "they measure, and nothing else",
        "overall": "all splits together"
        + ("" if labelling.calibration != "platt" else ", val and its flattering figures among them"),
    }


def as_used(
    table: "pd.DataFrame", class_names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """True labels ``[n]``, labels as they are used ``[n]``, and their probabilities ``[n, classes]``."""
    index = {name: label for label, name in enumerate(class_names)}
    labels = table["auto_label"].map(index).to_numpy(np.int64)
    return (
        table["ground_truth"].to_numpy(np.int64),
        labels,
        table[[f"p_{name}" for name in class_names]].to_numpy(np.float64),
    )


def plain(table: "pd.DataFrame", class_names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The argmax ``[n]`` of the model's own probabilities, and these, ``[n, classes]``."""
    probabilities = table[[f"zero_shot_p_{name}" for name in class_names]].to_numpy(np.float64)
    return probabilities.argmax(1), probabilities


def score(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    class_names: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy and its kin; F1, AUC and average precision are those of class 1, or macro means of more than two classes.

    ``truth`` and ``predicted`` are ``[n]``, ``probabilities`` ``[n, classes]``. What is undefined (an AUC with one class
    present) is None, and so is its interval.
    """
    from sklearn import metrics

    binary = len(class_names) == 2
    every = np.arange(len(class_names))
    matrix = metrics.confusion_matrix(truth, predicted, labels=every)
    defined = len(np.unique(truth)) == len(class_names)
    one_hot = np.eye(len(class_names), dtype=int)[truth]
    ranked = probabilities[:, 1] if binary else probabilities
    f1 = {"average": "binary"} if binary else {"average": "macro", "labels": every}
    values = {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "balanced_accuracy": float(
            np.mean([matrix[c, c] / matrix[c].sum() for c in every if matrix[c].sum()])
        ),
        "f1": float(metrics.f1_score(truth, predicted, zero_division=0, **f1)),
        "mcc": float(metrics.matthews_corrcoef(truth, predicted)),
        "roc_auc": float(metrics.roc_auc_score(truth, ranked, multi_class="ovr")) if defined else None,
        "average_precision": float(
            metrics.average_precision_score(one_hot[:, 1] if binary else one_hot, ranked)
        )
        if defined
        else None,
        "ece": calibration_error(probabilities[np.arange(len(truth)), predicted], predicted == truth),
        "brier": float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1)) / (2 if binary else 1)),
    }
    bounds = intervals(truth, predicted, probabilities, BINS, resamples, seed)
    return {
        "n": len(truth),
        **values,
        "majority_baseline_accuracy": float(np.bincount(truth).max() / len(truth)),
        "confusion_matrix": _named_matrix(matrix, class_names),
        **{f"{name}_ci95": bounds.get(name) for name in values},
    }


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: mean of ``|accuracy - confidence|`` over 15 equal bins, weighted by their counts."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right.astype(float) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _named_matrix(matrix: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Any]:
    if len(class_names) == 2:
        (tn, fp), (fn, tp) = matrix.tolist()
        return {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    return {
        true: dict(zip(class_names, row, strict=True))
        for true, row in zip(class_names, matrix.tolist(), strict=True)
    }
