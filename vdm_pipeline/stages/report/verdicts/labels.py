"""Do the automatic labels say more than a constant answer?"""

from collections.abc import Mapping
from typing import Any

from vdm_pipeline.stages.report.verdicts.verdict import Outcome, Verdict
from vdm_pipeline.stages.report.wording import NOT_MEASURED, find, interval

TOPIC, PLACE = "Automatic labels", "labels"


def labels_work(labels: Mapping[str, Any], n_classes: int) -> Verdict:
    """On test: the interval of the balanced accuracy against guessing, and the accuracy against the most frequent class."""
    test = find(labels, "test") or {}
    balanced, majority, accuracy = (
        test.get(key) for key in ("balanced_accuracy", "majority_baseline_accuracy", "accuracy")
    )
    if balanced is None or majority is None or accuracy is None:
        return Verdict(
            TOPIC, "absent", (f"Whether the labels beat a constant answer: {NOT_MEASURED}.",), PLACE
        )
    low = (test.get("balanced_accuracy_ci95") or [balanced])[0]
    good = accuracy > majority and low > 1 / n_classes
    outcome: Outcome = "good" if good else "bad"
    auc = test.get("roc_auc_ci95")
    more = " They rank images better than chance." if auc and auc[0] > 0.5 and not good else ""
    return Verdict(
        TOPIC,
        outcome,
        (
            f"The labels {'beat' if good else 'do not clearly beat'} a constant answer on test: accuracy {accuracy:.3f} against "
            f"{majority:.3f}, balanced accuracy {_with_ends(test, 'balanced_accuracy')}, ROC AUC {_with_ends(test, 'roc_auc')}.{more}",
        ),
        PLACE,
    )


def _with_ends(scores: Mapping[str, Any], key: str) -> str:
    return interval({"value": scores.get(key), "ci95": scores.get(f"{key}_ci95")})
