"""Asset checks of labels and subset: the thin Dagster face of `vdm_pipeline.stages.findings`."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.checks.told import ERROR, WARN, Result, look, rows_of
from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    import pandas as pd

    from vdm_pipeline.stages.archive import Archive
    from vdm_pipeline.stages.findings import Finding


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_predict_every_class(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], labeled_dataset: Stored) -> Result:
    """Stops the run when a class is never predicted, or one nearly always."""

    def find() -> "Finding":
        from vdm_pipeline.stages.findings import every_class_predicted

        labels = _table(labeled_dataset)["auto_label"].tolist()
        return every_class_predicted(labels, run.profile.classes.names, run.profile.checks.max_class_share)

    return look(context, run, find, [labeled_dataset], _severity(run))


@dg.asset_check(asset="labeled_dataset", blocking=True, additional_ins={"raw_npz": dg.AssetIn("raw_npz")})
def labels_are_sound(
    context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], labeled_dataset: Stored, raw_npz: Stored
) -> Result:
    """Stops the run on a damaged table."""

    def find() -> "Finding":
        from vdm_pipeline.io.tables import read_json
        from vdm_pipeline.stages.calibration import Calibration
        from vdm_pipeline.stages.findings import sound_table
        from vdm_pipeline.stages.labels import archive_columns

        names = run.profile.classes.names
        expected = archive_columns(_archive(run, raw_npz), names)
        calibration = Calibration(**read_json(labeled_dataset["calibration"]))
        return sound_table(_table(labeled_dataset), expected, names, calibration)

    return look(context, run, find, [labeled_dataset, raw_npz])


@dg.asset_check(asset="labeled_dataset", blocking=True)
def labels_beat_chance(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], labeled_dataset: Stored) -> Result:
    """Stops the run when labels that are to be captions are no better than guesses."""

    def find() -> "Finding":
        from vdm_pipeline.stages.findings import better_than_chance

        return better_than_chance(_test_scores(run, labeled_dataset), len(run.profile.classes.names))

    return look(context, run, find, [labeled_dataset], _severity(run))


@dg.asset_check(asset="labeled_dataset")
def labels_are_calibrated(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], labeled_dataset: Stored) -> Result:
    """Warns when the confidence is not to be believed."""

    def find() -> "Finding":
        from vdm_pipeline.stages.findings import calibrated

        return calibrated(_test_scores(run, labeled_dataset), run.profile.checks.max_ece)

    return look(context, run, find, [labeled_dataset], WARN)


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_balanced(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], lora_subset: Stored) -> Result:
    """Stops the run before a lopsided training."""

    def find() -> "Finding":
        from vdm_pipeline.stages.findings import balanced

        return balanced([row["label"] for row in rows_of(lora_subset)], run.profile.classes.names)

    return look(context, run, find, [lora_subset])


@dg.asset_check(asset="lora_subset", blocking=True, additional_ins={"raw_npz": dg.AssetIn("raw_npz")})
def subset_is_disjoint(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], lora_subset: Stored, raw_npz: Stored) -> Result:
    """Stops the run before it trains on an image that it will be measured against."""

    def find() -> "Finding":
        from vdm_pipeline.io.images import read_folder
        from vdm_pipeline.stages.data_faults import image_keys
        from vdm_pipeline.stages.findings import disjoint

        archive = _archive(run, raw_npz)
        held_out = [key for split in ("val", "test") for key in image_keys(archive.splits[split].images)]
        return disjoint(image_keys(read_folder(lora_subset["folder"], rows_of(lora_subset))), held_out)

    return look(context, run, find, [lora_subset, raw_npz])


@dg.asset_check(asset="lora_subset", blocking=True)
def subset_is_pure(context: dg.AssetCheckExecutionContext, run: dg.ResourceParam[Run], lora_subset: Stored) -> Result:
    """Stops the run when too many captions are wrong; the true labels measure here and choose nothing."""

    def find() -> "Finding":
        from vdm_pipeline.stages.findings import pure

        rows = rows_of(lora_subset)
        return pure([row["label"] for row in rows], [row["ground_truth"] for row in rows], run.profile.checks.min_purity)

    return look(context, run, find, [lora_subset])


def _table(handle: Stored) -> "pd.DataFrame":
    from vdm_pipeline.stages.labels import read_labels

    return read_labels(handle["table"])


def _archive(run: Run, raw_npz: Stored) -> "Archive":
    from vdm_pipeline.stages.archive import read_archive

    return read_archive(raw_npz["archive"], run.profile.data, run.profile.classes.names)


def _severity(run: Run) -> dg.AssetCheckSeverity:
    """Automatic labels that become captions must be good; else they are only looked at."""
    return ERROR if run.profile.subset.captions_from == "auto_label" else WARN


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
