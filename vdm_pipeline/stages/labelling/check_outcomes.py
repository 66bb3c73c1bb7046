"""What can be found wrong with labels and subset: pure functions over plain values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdm_pipeline.stages.check_outcome import CheckOutcome
from vdm_pipeline.stages.labelling.calibration import Calibration

if TYPE_CHECKING:
    import pandas as pd


ROUNDING = 1e-5
"""Tables are written with six digits."""


def every_class_predicted(
    labels: Sequence[str], class_names: Sequence[str], max_share: float
) -> CheckOutcome:
    """A labeller that says the same of every image, or of nearly every one, labels nothing."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    never = [name for name, count in counts.items() if not count]
    most = max(counts, key=lambda name: counts[name])
    share = counts[most] / max(len(labels), 1)
    if never:
        sentence = f"never predicted: {', '.join(never)}"
    elif share > max_share:
        sentence = (
            f"{most} is given to {share:.1%} of the images, more than checks.max_class_share = {max_share}"
        )
    else:
        sentence = "every class is predicted, and none nearly always"
    return CheckOutcome(
        not never and share <= max_share, sentence, {f"n_{name}": count for name, count in counts.items()}
    )


def sound_table(
    table: "pd.DataFrame", expected: "pd.DataFrame", class_names: Sequence[str], calibration: Calibration
) -> CheckOutcome:
    """Ids, splits and true labels are the archive's (``expected``, in its order); probabilities, confidence and label agree."""
    faults = []
    for column in expected:
        if len(table) != len(expected):
            faults = [f"{len(table)} rows for {len(expected)} images"]
        elif table[column].tolist() != expected[column].tolist():
            faults.append(f"{column} is not the archive's, in its order")
    repeated = int(table["image_id"].duplicated().sum())
    faults += [f"{repeated} repeated ids"] * bool(repeated)
    unknown = int((~table["auto_label"].isin(class_names)).sum())
    faults += [f"{unknown} labels that are no class"] * bool(unknown)
    kinds = [[f"{prefix}_{name}" for name in class_names] for prefix in ("p", "zero_shot_p")]
    for column in ("confidence_score", *kinds[0], *kinds[1]):
        outside = int((~table[column].between(0, 1)).sum())
        faults += [f"{outside} values of {column} outside [0, 1]"] * bool(outside)
    for columns in kinds:
        off = int((~((table[columns].sum(axis=1) - 1).abs() < ROUNDING)).sum())
        faults += [f"{off} rows whose {columns[0]} and so on do not add up to 1"] * bool(off)
    if not faults:
        faults = _disagreements(table, class_names, calibration)
    return CheckOutcome(
        not faults, "; ".join(faults) or "ids, labels and probabilities are sound", {"rows": len(table)}
    )


def _disagreements(table: "pd.DataFrame", class_names: Sequence[str], calibration: Calibration) -> list[str]:
    """Labels that are not what the probabilities decide, and confidences that are not the label's probability."""
    probabilities = table[[f"p_{name}" for name in class_names]].to_numpy(float)
    rows, labels = (
        np.arange(len(table)),
        table["auto_label"].map({name: i for i, name in enumerate(class_names)}).to_numpy(),
    )
    thresholds = np.maximum(calibration.thresholds, ROUNDING)
    odds = probabilities / thresholds
    undecided = int((odds[rows, labels] < odds.max(axis=1) - ROUNDING / thresholds.min()).sum())
    other = int((np.abs(probabilities[rows, labels] - table["confidence_score"].to_numpy()) > ROUNDING).sum())
    return [f"{undecided} labels that are not what the probabilities decide"] * bool(undecided) + [
        f"{other} values of confidence_score that are not the label's probability"
    ] * bool(other)


def better_than_chance(scores: Mapping[str, Any], n_classes: int) -> CheckOutcome:
    """The whole interval of the balanced accuracy lies above what guessing has; ``scores`` are those of test."""
    if scores["roc_auc"] is None:
        return CheckOutcome(
            False, "test lacks a class, so nothing shows that the labels are better than chance", {}
        )
    low, high = scores["balanced_accuracy_ci95"]
    good = low > 1 / n_classes
    says = "are better than chance" if good else "are not clearly better than chance"
    figures = {"balanced_accuracy": scores["balanced_accuracy"], "low": low, "high": high}
    return CheckOutcome(
        good,
        f"labels {says}: balanced accuracy {scores['balanced_accuracy']:.3f} [{low:.3f}, {high:.3f}] on test",
        figures,
    )


def calibrated(scores: Mapping[str, Any], max_ece: float) -> CheckOutcome:
    """Confidence means what it says."""
    ece = scores["ece"]
    return CheckOutcome(
        ece <= max_ece,
        f"expected calibration error {ece:.3f} on test; checks.max_ece is {max_ece}",
        {"ece": ece},
    )
