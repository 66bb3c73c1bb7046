"""Checks of `lora_subset`: `vdm_pipeline.stages.subset.check_outcomes` on the written files."""

from typing import TYPE_CHECKING

from vdm_pipeline.defs.checks.check_factory import check, metadata_rows
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    from vdm_pipeline.stages.check_outcome import CheckOutcome


def subset_is_balanced(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Blocks training on classes of unequal size."""
    from vdm_pipeline.stages.subset.check_outcomes import balanced

    labels = [row["label"] for row in metadata_rows(upstream["lora_subset"])]
    return balanced(labels, project.profile.classes.names)


def subset_is_disjoint(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Blocks training on an image that also evaluates the result."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.data.quality import image_hashes
    from vdm_pipeline.stages.subset.check_outcomes import disjoint

    profile, subset = project.profile, upstream["lora_subset"]
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names)
    held_out = [key for split in ("val", "test") for key in image_hashes(archive.splits[split].images)]
    return disjoint(image_hashes(read_folder(subset["folder"], metadata_rows(subset))), held_out)


def subset_is_pure(project: Project, upstream: Upstream) -> "CheckOutcome":
    """Blocks training on too many wrong captions. The true labels only measure here; they select nothing."""
    from vdm_pipeline.stages.subset.check_outcomes import pure

    rows = metadata_rows(upstream["lora_subset"])
    labels, truth = [row["label"] for row in rows], [row["ground_truth"] for row in rows]
    return pure(labels, truth, project.profile.checks.min_purity)


SUBSET_CHECKS = [
    check("lora_subset", subset_is_balanced),
    check("lora_subset", subset_is_disjoint),
    check("lora_subset", subset_is_pure),
]
