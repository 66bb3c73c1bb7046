"""Checks of labels and subset: `vdm_pipeline.stages.findings` on what was written."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.checks.check_factory import ERROR, WARN, Check, rows_of, warns
from vdm_pipeline.incremental.project import Inputs, Project

if TYPE_CHECKING:
    import pandas as pd

    from vdm_pipeline.stages.check_outcome import CheckOutcome
    from vdm_pipeline.stages.data.archive import Archive


def labels_are_sound(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Stops the run on a damaged table."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.labelling.calibration import Calibration
    from vdm_pipeline.stages.labelling.check_outcomes import sound_table
    from vdm_pipeline.stages.labelling.labels import archive_columns

    names = run.profile.classes.names
    calibration = Calibration(**read_json(upstream["labeled_dataset"]["calibration"]))
    return sound_table(_table(upstream), archive_columns(_archive(run, upstream), names), names, calibration)


def labels_predict_every_class(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Stops the run when a class is never predicted, or one nearly always."""
    from vdm_pipeline.stages.labelling.check_outcomes import every_class_predicted

    return every_class_predicted(_table(upstream)["auto_label"].tolist(), run.profile.classes.names, run.profile.checks.max_class_share)


def labels_beat_chance(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Stops the run when labels that are to be captions are no better than guesses."""
    from vdm_pipeline.stages.labelling.check_outcomes import better_than_chance

    return better_than_chance(_test_scores(run, upstream), len(run.profile.classes.names))


def labels_are_calibrated(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Warns when the confidence is not to be believed."""
    from vdm_pipeline.stages.labelling.check_outcomes import calibrated

    return calibrated(_test_scores(run, upstream), run.profile.checks.max_ece)


def subset_is_balanced(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Stops the run before a lopsided training."""
    from vdm_pipeline.stages.labelling.check_outcomes import balanced

    return balanced([row["label"] for row in rows_of(upstream["lora_subset"])], run.profile.classes.names)


def subset_is_disjoint(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Stops the run before it trains on an image that it will be measured against."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.data.quality import image_keys
    from vdm_pipeline.stages.labelling.check_outcomes import disjoint

    archive, subset = _archive(run, upstream), upstream["lora_subset"]
    held_out = [key for split in ("val", "test") for key in image_keys(archive.splits[split].images)]
    return disjoint(image_keys(read_folder(subset["folder"], rows_of(subset))), held_out)


def subset_is_pure(run: Project, upstream: Inputs) -> "CheckOutcome":
    """Stops the run when too many captions are wrong; the true labels measure here and choose nothing."""
    from vdm_pipeline.stages.labelling.check_outcomes import pure

    rows = rows_of(upstream["lora_subset"])
    return pure([row["label"] for row in rows], [row["ground_truth"] for row in rows], run.profile.checks.min_purity)


def _table(upstream: Inputs) -> "pd.DataFrame":
    from vdm_pipeline.stages.labelling.labels import read_labels

    return read_labels(upstream["labeled_dataset"]["table"])


def _archive(run: Project, upstream: Inputs) -> "Archive":
    from vdm_pipeline.stages.data.archive import read_archive

    return read_archive(upstream["raw_npz"]["archive"], run.profile.data, run.profile.classes.names)


def _test_scores(run: Project, upstream: Inputs) -> dict[str, Any]:
    from vdm_pipeline.stages.evaluation.metrics.labels import as_used, score

    table, names = _table(upstream), run.profile.classes.names
    return score(*as_used(table[table["split"] == "test"], names), names, run.profile.evaluation.bootstrap)


def _as_captions(run: Project, outcome: "CheckOutcome") -> dg.AssetCheckSeverity:
    """Automatic labels that become captions must be good; else they are only looked at."""
    return ERROR if run.profile.subset.captions_from == "auto_label" else WARN


LABEL_CHECKS = [
    Check("labeled_dataset", labels_are_sound),
    Check("labeled_dataset", labels_predict_every_class, _as_captions),
    Check("labeled_dataset", labels_beat_chance, _as_captions),
    Check("labeled_dataset", labels_are_calibrated, warns),
    Check("lora_subset", subset_is_balanced),
    Check("lora_subset", subset_is_disjoint),
    Check("lora_subset", subset_is_pure),
]
