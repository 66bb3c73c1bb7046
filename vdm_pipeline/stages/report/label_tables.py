"""Tables of the automatic labels and of data issues in the archive."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.stages.report.formatting import NOT_MEASURED
from vdm_pipeline.stages.report.tables import Block, Cell, Row, Table, metric_cell

LABEL_METRICS = {
    "n": "images",
    "accuracy": "accuracy",
    "majority_baseline_accuracy": "accuracy of a constant guess",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
}


def label_table(labels: Mapping[str, Any]) -> Table:
    """Two columns per split: the labels in use, and the plain argmax."""
    columns: dict[str, Mapping[str, Any]] = {}
    for split, scores in labels.items():
        columns[split] = scores
        if scores.get("uncalibrated"):
            columns[f"{split}, plain argmax"] = scores["uncalibrated"]
    rows = [
        Row(title, [_label_cell(scores, key) for scores in columns.values()])
        for key, title in LABEL_METRICS.items()
    ]
    blocks = [Block("", rows)] if columns else []
    return Table("Automatic labels compared with the dataset's labels, by split", list(columns), blocks)


def is_calibrated(labels: Mapping[str, Any]) -> bool:
    """Whether any metric of the labels in use differs from that of the plain argmax."""
    pairs = [(scores, scores["uncalibrated"]) for scores in labels.values() if scores.get("uncalibrated")]
    return any(scores.get(key) != plain.get(key) for scores, plain in pairs for key in LABEL_METRICS)


def fault_table(faults: Mapping[str, Any], exclude: Sequence[str]) -> Table:
    """One row per fault and split: the number of images, and how they are handled."""
    rows = [
        Row(fault.replace("_", " "), [Cell(split), Cell(str(n)), Cell(_handling(fault, split, exclude))])
        for fault, counts in faults.get("faults", {}).items()
        for split, n in counts.items()
    ]
    empty = Row("none found" if "faults" in faults else NOT_MEASURED, [Cell("")] * 3)
    return Table("Data issues of the archive", ["split", "images", "handling"], [Block("", rows or [empty])])


def _handling(fault: str, split: str, exclude: Sequence[str]) -> str:
    """``split`` may also be ``train also in val`` and the like."""
    if not split.startswith("train"):
        return "counted only; val and test are used unfiltered"
    if split != "train":
        return "never in the subset"
    return "excluded from the subset" if fault in exclude else "allowed in the subset (profile setting)"


def _label_cell(scores: Mapping[str, Any], key: str) -> Cell:
    if key in scores and scores[key] is None:
        return Cell("undefined")
    return metric_cell({"value": scores.get(key), "ci95": scores.get(f"{key}_ci95")})
