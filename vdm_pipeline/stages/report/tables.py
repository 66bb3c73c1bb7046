"""The report's tables as plain values: a caption, columns, and blocks of rows; and those of labels and faults."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vdm_pipeline.stages.report.wording import NOT_MEASURED, number

LABEL_METRICS = {
    "n": "images",
    "accuracy": "accuracy",
    "majority_baseline_accuracy": "constant answer",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "ece": "calibration error",
    "brier": "Brier score",
}


class Cell(NamedTuple):
    """A figure, and what stands small beneath it, such as its interval."""

    text: str
    beneath: str = ""


class Row(NamedTuple):
    """A title and a cell a column."""

    title: str
    cells: list[Cell]


class Block(NamedTuple):
    """Rows under one heading; an empty heading is not shown."""

    title: str
    rows: list[Row]


class Table(NamedTuple):
    """What one HTML table shows."""

    caption: str
    columns: list[str]
    blocks: list[Block]


def metric_cell(metric: Any, *more: str) -> Cell:
    """A value with its interval; ``more`` follows beneath. Plain numbers have no interval, and absent figures say so."""
    if not isinstance(metric, Mapping):
        return Cell(number(metric))
    ends = metric.get("ci95")
    between = f"[{number(ends[0])}, {number(ends[1])}]" if ends else ""
    return Cell(number(metric.get("value")), ", ".join(filter(None, (between, *more))))


def label_table(labels: Mapping[str, Any]) -> Table:
    """Two columns a split: the labels as they are used, and the plain argmax."""
    columns: dict[str, Mapping[str, Any]] = {}
    for split, scores in labels.items():
        columns[split] = scores
        if scores.get("uncalibrated"):
            columns[f"{split}, plain argmax"] = scores["uncalibrated"]
    rows = [
        Row(title, [_label_cell(scores, key) for scores in columns.values()])
        for key, title in LABEL_METRICS.items()
    ]
    return Table(
        "Automatic labels against the archive's own, by split",
        list(columns),
        [Block("", rows)] if columns else [],
    )


def calibrated(labels: Mapping[str, Any]) -> bool:
    """Whether the used labels differ from the plain argmax anywhere."""
    compared = [(scores, scores["uncalibrated"]) for scores in labels.values() if scores.get("uncalibrated")]
    return any(scores.get(key) != plain.get(key) for scores, plain in compared for key in LABEL_METRICS)


def fault_table(faults: Mapping[str, Any], exclude: Sequence[str]) -> Table:
    """One row a fault and place: where, how many, and what is done about it."""
    rows = [
        Row(
            fault.replace("_", " "), [Cell(place), Cell(str(count)), Cell(_done_about(fault, place, exclude))]
        )
        for fault, places in faults.get("faults", {}).items()
        for place, count in places.items()
    ]
    empty = Row("none found" if "faults" in faults else NOT_MEASURED, [Cell("")] * 3)
    return Table(
        "Faulty images of the archive", ["where", "images", "what is done"], [Block("", rows or [empty])]
    )


def _done_about(fault: str, place: str, exclude: Sequence[str]) -> str:
    if not place.startswith("train"):
        return "counted; val and test are used as they are"
    if place != "train":
        return "never in the subset"
    return "left out of the subset" if fault in exclude else "allowed in the subset, as the profile says"


def _label_cell(scores: Mapping[str, Any], key: str) -> Cell:
    if key in scores and scores[key] is None:
        return Cell("undefined")
    return metric_cell({"value": scores.get(key), "ci95": scores.get(f"{key}_ci95")})
