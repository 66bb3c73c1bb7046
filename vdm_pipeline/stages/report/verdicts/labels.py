"""Verdict on the automatic labels: whether they beat a constant guess."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.stages.report.formatting import NOT_MEASURED, with_interval
from vdm_pipeline.stages.report.metric_values import lookup
from vdm_pipeline.stages.report.verdicts.verdict import Verdict

TOPIC, SECTION = "Automatic labels", "labels"


def label_quality(labels: Mapping[str, Any], n_classes: int) -> Verdict:
    """On test, balanced accuracy must beat guessing, and accuracy the most frequent class."""
    test = lookup(labels, "test") or {}
    balanced, majority, accuracy = (
        test.get(key) for key in ("balanced_accuracy", "majority_baseline_accuracy", "accuracy")
    )
    if balanced is None or majority is None or accuracy is None:
        sentence = f"Automatic labels compared with a constant guess: {NOT_MEASURED}."
        return Verdict(TOPIC, "absent", (sentence,), SECTION)
    lowest = (test.get("balanced_accuracy_ci95") or [balanced])[0]
    good = accuracy > majority and lowest > 1 / n_classes
    auc = test.get("roc_auc_ci95")
    ranks = " They still rank images better than chance." if auc and auc[0] > 0.5 and not good else ""
    sentence = (
        f"On test, the labels {'beat' if good else 'do not clearly beat'} a constant guess: "
        f"accuracy {accuracy:.3f} against {majority:.3f}, "
        f"balanced accuracy {_score(test, 'balanced_accuracy')}, "
        f"ROC AUC {_score(test, 'roc_auc')}.{ranks}"
    )
    return Verdict(TOPIC, "good" if good else "bad", (sentence,), SECTION)


def _score(scores: Mapping[str, Any], key: str) -> str:
    return with_interval({"value": scores.get(key), "ci95": scores.get(f"{key}_ci95")})
