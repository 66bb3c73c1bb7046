"""Rows of the report's tables, as text; what is absent says so."""

from collections.abc import Sequence
from typing import Any

from jinja2 import ChainableUndefined

from vdm_pipeline.stages.report.verdict import NOT_MEASURED, find, interval, short

LABEL_METRICS = {
    "n": "n",
    "accuracy": "accuracy",
    "majority_baseline_accuracy": "constant answer",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "ece": "ECE",
    "brier": "Brier",
}
IMAGE_METRICS = {"n": "n", "kid": "KID", "sharpness": "sharpness", "chroma": "colour spread", "label_agreement": "label agreement"}
ARMS = {"real": "real against real", "baseline": "baseline", "lora": "with LoRA"}


class NotMeasured(ChainableUndefined):
    """What a template asks for and the inputs lack."""

    def __str__(self) -> str:
        return NOT_MEASURED


def number(value: Any) -> str:
    """Three significant digits, trailing zeros kept; counts as they are; ``not measured`` for what is absent."""
    if value is None or isinstance(value, ChainableUndefined):
        return NOT_MEASURED
    if isinstance(value, int):
        return str(value)
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else short(value)


def label_rows(labels: dict[str, Any]) -> list[list[str]]:
    """Two rows a split: the labels as they are used, and the plain argmax."""
    rows = []
    for split, scores in labels.items():
        rows.append([split, *(_label_cell(scores, key) for key in LABEL_METRICS)])
        if scores.get("uncalibrated"):
            rows.append([f"{split}, plain argmax", *(_label_cell(scores["uncalibrated"], key) for key in LABEL_METRICS)])
    return rows


def calibrated(labels: dict[str, Any]) -> bool:
    """Whether the used labels differ from the plain argmax anywhere."""
    compared = [(scores, scores["uncalibrated"]) for scores in labels.values() if scores.get("uncalibrated")]
    return any(scores.get(key) != plain.get(key) for scores, plain in compared for key in LABEL_METRICS)


def image_rows(images: dict[str, Any], group: str) -> list[list[str]]:
    """One row an arm; ``group`` is ``overall`` or a class."""
    rows = []
    for arm, title in ARMS.items():
        count = number(find(images, arm, group, "n"))
        rows.append([title, count, *(interval(find(images, arm, group, key)) for key in list(IMAGE_METRICS)[1:])])
    return rows


def fault_rows(faults: dict[str, Any], leave_out: Sequence[str]) -> list[list[str]]:
    """One row a fault and place: what, where, how many, and what is done about it."""
    return [
        [fault.replace("_", " "), place, str(count), _done_about(fault, place, leave_out)]
        for fault, places in faults.get("faults", {}).items()
        for place, count in places.items()
    ]


def _done_about(fault: str, place: str, leave_out: Sequence[str]) -> str:
    if not place.startswith("train"):
        return "counted; val and test are used as they are"
    if place != "train":
        return "never in the subset"
    return "left out of the subset" if fault in leave_out else "allowed in the subset, as the profile says"


def groups(class_names: Sequence[str]) -> list[str]:
    """Everything together, then each class."""
    return ["overall", *class_names]


def _label_cell(scores: dict[str, Any], key: str) -> str:
    if key not in scores:
        return NOT_MEASURED
    if scores[key] is None:
        return "undefined"
    ci95 = scores.get(f"{key}_ci95")
    return number(scores[key]) + (f" [{number(ci95[0])}, {number(ci95[1])}]" if ci95 else "")
