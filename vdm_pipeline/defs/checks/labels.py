"""Checks of `labeled_dataset`: `vdm_pipeline.stages.labelling.check_outcomes` on the written files."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.checks.check_factory import ERROR, WARN, check, warn_only
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    import pandas as pd

    from vdm_pipeline.stages.check_outcome import CheckOutcome


def labels_are_sound(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Blocks a damaged table."""
    from vdm_pipeline.io.tables import read_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.labelling.calibration import Calibration
    from vdm_pipeline.stages.labelling.check_outcomes import sound_table
    from vdm_pipeline.stages.labelling.labels import archive_columns

    names = project.profile.classes.names
    archive = read_archive(upstream["raw_npz"]["archive"], project.profile.data, names)
    calibration = Calibration(**read_json(upstream["labeled_dataset"]["calibration"]))
    return sound_table(_table(upstream), archive_columns(archive, names), names, calibration)


def labels_predict_every_class(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Blocks labels that never predict a class, or nearly always predict one."""
    from vdm_pipeline.stages.labelling.check_outcomes import every_class_predicted

    names, limit = project.profile.classes.names, project.profile.checks.max_class_share
    return every_class_predicted(_table(upstream)["auto_label"].tolist(), names, limit)


def labels_beat_chance(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Blocks labels that are no better than chance, if they become captions."""
    from vdm_pipeline.stages.labelling.check_outcomes import better_than_chance

    return better_than_chance(_test_scores(project, upstream), len(project.profile.classes.names))


def labels_are_calibrated(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Warns when the confidence differs from the accuracy."""
    from vdm_pipeline.stages.labelling.check_outcomes import calibrated

    return calibrated(_test_scores(project, upstream), project.profile.checks.max_ece)


def _table(upstream: Upstream) -> "pd.DataFrame":
    from vdm_pipeline.stages.labelling.labels import read_labels

    return read_labels(upstream["labeled_dataset"]["table"])


def _test_scores(project: Project, upstream: Upstream) -> dict[str, Any]:
    from vdm_pipeline.stages.evaluation.metrics.labels import calibrated_labels, score

    table, names = _table(upstream), project.profile.classes.names
    test = table[table["split"] == "test"]
    return score(*calibrated_labels(test, names), names, project.profile.evaluation.bootstrap)


def _error_if_captions(project: Project, outcome: "CheckOutcome") -> dg.AssetCheckSeverity:
    """Automatic labels that become captions must be good; else a warning is enough."""
    return ERROR if project.profile.subset.captions_from == "auto_label" else WARN


LABEL_CHECKS = [
    check("labeled_dataset", labels_are_sound),
    check("labeled_dataset", labels_predict_every_class, _error_if_captions),
    check("labeled_dataset", labels_beat_chance, _error_if_captions),
    check("labeled_dataset", labels_are_calibrated, warn_only),
]
