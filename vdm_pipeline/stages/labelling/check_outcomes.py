"""Outcomes of the label checks: pure functions over plain values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdm_pipeline.stages.check_outcome import CheckOutcome
from vdm_pipeline.stages.labelling.calibration import Calibration

if TYPE_CHECKING:
    import pandas as pd


TOLERANCE = 1e-5
"""Tables are written with six significant digits."""


def every_class_predicted(
    labels: Sequence[str], class_names: Sequence[str], max_share: float
) -> CheckOutcome:
    """Every class is predicted, and none for more than ``max_share`` of the images."""
    counts = {name: sum(label == name for label in labels) for name in class_names}
    never = [name for name, count in counts.items() if not count]
    most = max(counts, key=lambda name: counts[name])
    share = counts[most] / max(len(labels), 1)
    if never:
        sentence = f"never predicted: {', '.join(never)}"
    elif share > max_share:
        sentence = f"{most} is predicted for {share:.1%} of the images; checks.max_class_share is {max_share}"
    else:
        sentence = "every class is predicted, and none nearly always"
    figures = {f"n_{name}": count for name, count in counts.items()}
    return CheckOutcome(not never and share <= max_share, sentence, figures)


def sound_table(
    table: "pd.DataFrame", expected: "pd.DataFrame", class_names: Sequence[str], calibration: Calibration
) -> CheckOutcome:
    """The table equals ``expected``, the archive's columns; its probabilities, confidence and label agree."""
    faults = _differences_from_archive(table, expected)
    faults += _bad_values(table, class_names)
    if not faults:
        faults = _disagreements(table, class_names, calibration)
    sentence = "; ".join(faults) or "ids, labels and probabilities are sound"
    return CheckOutcome(not faults, sentence, {"rows": len(table)})


def _differences_from_archive(table: "pd.DataFrame", expected: "pd.DataFrame") -> list[str]:
    if len(table) != len(expected):
        return [f"{len(table)} rows for {len(expected)} images"]
    return [
        f"{column} differs from the archive"
        for column in expected
        if table[column].tolist() != expected[column].tolist()
    ]


def _bad_values(table: "pd.DataFrame", class_names: Sequence[str]) -> list[str]:
    """Repeated ids, unknown labels, and probabilities outside [0, 1] or that do not add up to 1."""
    faults = []
    repeated = int(table["image_id"].duplicated().sum())
    if repeated:
        faults.append(f"{repeated} repeated ids")
    unknown = int((~table["auto_label"].isin(class_names)).sum())
    if unknown:
        faults.append(f"{unknown} labels that are not a class")
    groups = {prefix: [f"{prefix}_{name}" for name in class_names] for prefix in ("p", "zero_shot_p")}
    for column in ("confidence_score", *groups["p"], *groups["zero_shot_p"]):
        outside = int((~table[column].between(0, 1)).sum())
        if outside:
            faults.append(f"{outside} values of {column} outside [0, 1]")
    for prefix, columns in groups.items():
        wrong = int((~((table[columns].sum(axis=1) - 1).abs() < TOLERANCE)).sum())
        if wrong:
            faults.append(f"{wrong} rows whose {prefix}_<class> columns do not add up to 1")
    return faults


def _disagreements(table: "pd.DataFrame", class_names: Sequence[str], calibration: Calibration) -> list[str]:
    """Labels and confidences that contradict the probabilities."""
    probabilities = table[[f"p_{name}" for name in class_names]].to_numpy(float)
    codes = {name: code for code, name in enumerate(class_names)}
    rows, labels = np.arange(len(table)), table["auto_label"].map(codes).to_numpy()
    thresholds = np.maximum(calibration.thresholds, TOLERANCE)
    ratios = probabilities / thresholds
    wrong_label = ratios[rows, labels] < ratios.max(axis=1) - TOLERANCE / thresholds.min()
    confidence = table["confidence_score"].to_numpy()
    wrong_confidence = np.abs(probabilities[rows, labels] - confidence) > TOLERANCE
    faults = []
    if wrong_label.any():
        faults.append(f"{wrong_label.sum()} labels that differ from the calibration's decision")
    if wrong_confidence.any():
        faults.append(
            f"{wrong_confidence.sum()} values of confidence_score that differ from the label's probability"
        )
    return faults


def better_than_chance(scores: Mapping[str, Any], n_classes: int) -> CheckOutcome:
    """The interval of the balanced accuracy on test lies above chance. ``scores`` are those of test."""
    if scores["roc_auc"] is None:
        return CheckOutcome(False, "test lacks a class, so the labels cannot be compared with chance")
    accuracy, (low, high) = scores["balanced_accuracy"], scores["balanced_accuracy_ci95"]
    passed = low > 1 / n_classes
    verb = "are" if passed else "are not clearly"
    return CheckOutcome(
        passed,
        f"labels {verb} better than chance: balanced accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] on test",
        {"balanced_accuracy": accuracy, "low": low, "high": high},
    )


def calibrated(scores: Mapping[str, Any], max_ece: float) -> CheckOutcome:
    """The expected calibration error is at most ``max_ece``."""
    ece = scores["ece"]
    sentence = f"expected calibration error {ece:.3f} on test; checks.max_ece is {max_ece}"
    return CheckOutcome(ece <= max_ece, sentence, {"ece": ece})
