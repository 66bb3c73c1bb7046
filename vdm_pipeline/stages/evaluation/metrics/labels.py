"""Metrics of automatic labels against the true ones, beside the accuracy of a constant answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.evaluation.metrics.bootstrap import bootstrap_intervals

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

BINS = 15
"""Bins of the expected calibration error (Guo et al., 2017)."""


def label_report(
    table: "pd.DataFrame", class_names: Sequence[str], resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Metrics of each split and overall, each with its 95 % interval under ``<metric>_ci95``.

    ``uncalibrated`` repeats them for the model's own probabilities and their argmax.
    """
    truth, labels, probabilities = calibrated_labels(table, class_names)
    argmax, own_probabilities = uncalibrated_labels(table, class_names)
    report: dict[str, Any] = {}
    for split in (*table["split"].unique(), "overall"):
        rows = np.ones(len(table), bool) if split == "overall" else (table["split"] == split).to_numpy()
        calibrated, uncalibrated = (
            score(truth[rows], predicted[rows], p[rows], class_names, resamples, seed)
            for predicted, p in ((labels, probabilities), (argmax, own_probabilities))
        )
        report[split] = calibrated | {"uncalibrated": uncalibrated}
    return report


def true_labels_for(labelling: Labelling, captions_from: str) -> dict[str, str]:
    """What the true labels of each split were used for: a figure is optimistic where they were fitted to."""
    threshold = "" if labelling.decision == "argmax" else f" and the threshold for {labelling.decision}"
    val = {
        "none": "evaluation only",
        "prior": "evaluation only; the bias was fitted to the scores, without labels",
        "platt": f"fitted temperature and bias{threshold}, so the calibrated figures of val are optimistic",
    }
    captioned = captions_from == "ground_truth"
    overall = "all splits together"
    if labelling.calibration == "platt":
        overall += ", including the optimistic figures of val"
    return {
        "train": "selected and captioned the subset" if captioned else "evaluation only",
        "val": val[labelling.calibration],
        "test": "evaluation only",
        "overall": overall,
    }


def calibrated_labels(table: "pd.DataFrame", class_names: Sequence[str]) -> tuple[Labels, Labels, Floats]:
    """True labels ``[n]``, automatic labels ``[n]``, and their calibrated probabilities ``[n, classes]``."""
    index = {name: label for label, name in enumerate(class_names)}
    truth = table["ground_truth"].to_numpy(np.int64)
    labels = table["auto_label"].map(index).to_numpy(np.int64)
    return truth, labels, table[[f"p_{name}" for name in class_names]].to_numpy(np.float64)


def uncalibrated_labels(table: "pd.DataFrame", class_names: Sequence[str]) -> tuple[Labels, Floats]:
    """Argmax ``[n]`` of the model's own probabilities, and these probabilities ``[n, classes]``."""
    probabilities = table[[f"zero_shot_p_{name}" for name in class_names]].to_numpy(np.float64)
    return probabilities.argmax(1), probabilities


def score(
    truth: Labels,
    predicted: Labels,
    probabilities: Floats,
    class_names: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Metrics of one set of labels, each with its 95 % interval.

    ``truth`` and ``predicted`` are ``[n]``, ``probabilities`` ``[n, classes]``. F1, AUC and average
    precision are those of class 1, or macro means for more than two classes. A metric that is undefined,
    such as an AUC with one class present, is None, and so is its interval.
    """
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(truth, predicted, labels=np.arange(len(class_names)))
    values = _metrics(truth, predicted, probabilities, matrix)
    bounds = bootstrap_intervals(truth, predicted, probabilities, BINS, resamples, seed)
    return {
        "n": len(truth),
        **values,
        "majority_baseline_accuracy": float(np.bincount(truth).max() / len(truth)),
        "confusion_matrix": _named_matrix(matrix, class_names),
        **{f"{name}_ci95": bounds.get(name) for name in values},
    }


def _metrics(truth: Labels, predicted: Labels, probabilities: Floats, matrix: Labels) -> dict[str, Any]:
    from sklearn import metrics

    classes = np.arange(len(matrix))
    binary = len(classes) == 2
    one_hot = np.eye(len(classes), dtype=int)[truth]
    recalls = [matrix[c, c] / matrix[c].sum() for c in classes if matrix[c].sum()]
    f1_options = {"average": "binary"} if binary else {"average": "macro", "labels": classes}
    roc_auc = average_precision = None
    if len(np.unique(truth)) == len(classes):
        scores = probabilities[:, 1] if binary else probabilities
        roc_auc = float(metrics.roc_auc_score(truth, scores, multi_class="ovr"))
        positive = one_hot[:, 1] if binary else one_hot
        average_precision = float(metrics.average_precision_score(positive, scores))
    return {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "balanced_accuracy": float(np.mean(recalls)),
        "f1": float(metrics.f1_score(truth, predicted, zero_division=0, **f1_options)),
        "mcc": float(metrics.matthews_corrcoef(truth, predicted)),
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "ece": calibration_error(probabilities[np.arange(len(truth)), predicted], predicted == truth),
        "brier": float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1)) / (2 if binary else 1)),
    }


def calibration_error(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    """Expected calibration error: ``|accuracy - confidence|`` of 15 equal bins, weighted by their counts."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, correct.astype(float) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _named_matrix(matrix: Labels, class_names: Sequence[str]) -> dict[str, Any]:
    if len(class_names) == 2:
        (tn, fp), (fn, tp) = matrix.tolist()
        return {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    rows = {name: row.tolist() for name, row in zip(class_names, matrix, strict=True)}
    return {true: dict(zip(class_names, row, strict=True)) for true, row in rows.items()}
