"""Verdict on the automatic labels: whether they beat a constant guess."""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.stages.report.formatting import NOT_MEASURED, with_interval
from vdm_pipeline.stages.report.metric_values import Metric, lookup, lower, upper
from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Topic, Verdict

LABELS = Topic(
    "Automatic labels",
    "labels",
    if_unclear="More test images narrow the intervals.",
    if_poor="Other prompts, another calibration ([labelling]) or a stronger labeller may help.",
)
COMPARISONS: dict[Outcome, str] = {
    "good": "beat",
    "unclear": "do not clearly beat",
    "bad": "do not beat",
}


def label_quality(labels: Mapping[str, Any], n_classes: int) -> Verdict:
    """On test, balanced accuracy must beat guessing, and accuracy the most frequent class."""
    test = lookup(labels, "test") or {}
    majority, accuracy, balanced = (
        test.get("majority_baseline_accuracy"),
        _score(test, "accuracy"),
        _score(test, "balanced_accuracy"),
    )
    if majority is None or accuracy["value"] is None or balanced["value"] is None:
        sentence = f"Automatic labels compared with a constant guess: {NOT_MEASURED}."
        return Verdict(LABELS, "absent", (sentence,))
    outcome = _outcome(accuracy, majority, balanced, 1 / n_classes)
    auc = test.get("roc_auc_ci95")
    ranked = auc and auc[0] > 0.5 and outcome != "good"
    sentence = (
        f"On test, the labels {COMPARISONS[outcome]} a constant guess: "
        f"accuracy {accuracy['value']:.3f} against {majority:.3f}, "
        f"balanced accuracy {with_interval(balanced)}, "
        f"ROC AUC {with_interval(_score(test, 'roc_auc'))}."
        f"{' They still rank images better than chance.' if ranked else ''}"
    )
    return Verdict(LABELS, outcome, (sentence,))


def _outcome(accuracy: Metric, majority: float, balanced: Metric, chance: float) -> Outcome:
    if accuracy["value"] > majority and lower(balanced) > chance:
        return "good"
    return "bad" if upper(accuracy) < majority or upper(balanced) <= chance else "unclear"


def _score(scores: Mapping[str, Any], key: str) -> Metric:
    return {"value": scores.get(key), "ci95": scores.get(f"{key}_ci95")}
