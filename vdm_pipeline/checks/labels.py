"""Asset checks of labels and subset: the thin Dagster face of `vdm_pipeline.stages.findings`."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.checks.told import rows_of, settled, told
from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    import pandas as pd

    from vdm_pipeline.stages.archive import Archive


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_predict_every_class(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run when a class is never predicted, or one nearly always."""
    from vdm_pipeline.stages.findings import every_class_predicted

    labels = _table(labeled_dataset)["auto_label"].tolist()
    finding = every_class_predicted(labels, run.profile.classes.names, run.profile.checks.max_class_share)
    return settled(run, labeled_dataset, finding, "labels_predict_every_class", _severity(run))


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_are_sound(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run on a damaged table."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.calibration import Calibration
    from vdm_pipeline.stages.findings import sound_table
    from vdm_pipeline.stages.labels import archive_columns

    names = run.profile.classes.names
    expected = archive_columns(_archive(run), names)
    calibration = Calibration(**read_json(labeled_dataset["calibration"]))
    finding = sound_table(_table(labeled_dataset), expected, names, calibration)
    return settled(run, labeled_dataset, finding, "labels_are_sound")


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_beat_chance(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Stops the run when labels that are to be captions are no better than guesses."""
    from vdm_pipeline.stages.findings import better_than_chance

    finding = better_than_chance(_test_scores(run, labeled_dataset), len(run.profile.classes.names))
    return settled(run, labeled_dataset, finding, "labels_beat_chance", _severity(run))


@dg.asset_check(asset="labeled_dataset")
def labels_are_calibrated(run: dg.ResourceParam[Run], labeled_dataset: Stored) -> dg.AssetCheckResult:
    """Warns when the confidence is not to be believed."""
    from vdm_pipeline.stages.findings import calibrated

    finding = calibrated(_test_scores(run, labeled_dataset), run.profile.checks.max_ece)
    return told(finding, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_balanced(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run before a lopsided training."""
    from vdm_pipeline.stages.findings import balanced

    finding = balanced([row["label"] for row in rows_of(lora_subset)], run.profile.classes.names)
    return settled(run, lora_subset, finding, "subset_is_balanced")


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_disjoint(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run before it trains on an image that it will be measured against."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.data_faults import image_keys
    from vdm_pipeline.stages.findings import disjoint

    archive = _archive(run)
    held_out = [key for split in ("val", "test") for key in image_keys(archive.splits[split].images)]
    finding = disjoint(image_keys(read_folder(lora_subset["folder"], rows_of(lora_subset))), held_out)
    return settled(run, lora_subset, finding, "subset_is_disjoint")


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_pure(run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.AssetCheckResult:
    """Stops the run when too many captions are wrong; the true labels measure here and choose nothing."""
    from vdm_pipeline.stages.findings import pure

    rows = rows_of(lora_subset)
    finding = pure([row["label"] for row in rows], [row["ground_truth"] for row in rows], run.profile.checks.min_purity)
    return settled(run, lora_subset, finding, "subset_is_pure")


def _table(handle: Stored) -> "pd.DataFrame":
    from vdm_pipeline.stages.labels import read_labels

    return read_labels(handle["table"])


def _archive(run: Run) -> "Archive":
    from vdm_pipeline.stages.archive import read_archive

    return read_archive(run.paths("raw_npz")["archive"], run.profile.data, run.profile.classes.names)


def _severity(run: Run) -> dg.AssetCheckSeverity:
    """Automatic labels that become captions must be good; else they are only looked at."""
    return dg.AssetCheckSeverity.ERROR if run.profile.subset.captions_from == "auto_label" else dg.AssetCheckSeverity.WARN


def _test_scores(run: Run, handle: Stored) -> dict[str, Any]:
    from vdm_pipeline.stages.metrics.labels import as_used, score

    table, names = _table(handle), run.profile.classes.names
    return score(*as_used(table[table["split"] == "test"], names), names, run.profile.evaluation.bootstrap)


LABEL_CHECKS = [
    labels_predict_every_class,
    labels_are_sound,
    labels_beat_chance,
    labels_are_calibrated,
    subset_is_balanced,
    subset_is_disjoint,
    subset_is_pure,
]
