"""`raw_npz`: the archive of images and true labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import COLUMNS, image_preview, inline_images
from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.io.hashing import file_sha256

if TYPE_CHECKING:
    from vdm_pipeline.stages.data.archive import Archive


@pipeline_asset(group="data", kinds={"numpy"})
def raw_npz(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Images and true labels: a MedMNIST archive from data/ or downloaded, or rendered phantoms.

    Settings: `[data]`, `[classes]`. First, names, shapes, types, labels, counts and, if MedMNIST publishes
    one, the MD5 are checked. The data version depends on the archive's content only, not on its time stamp.
    """
    from vdm_pipeline.stages.data.archive import obtain_archive, read_archive

    profile, names = project.profile, project.profile.classes.names
    folder, mirror = project.store.path("data"), profile.execution.archive_mirror
    path = obtain_archive(profile.data, folder, context.log.info, mirror)
    archive = read_archive(path, profile.data, names).verify()
    if archive.status == "unverified":
        context.log.warning(
            f"{path.name} is recorded as unverified: its MD5 {archive.md5} differs from MedMNIST's; "
            "its format, classes and image counts match"
        )
    if file_sha256(path) != archive.sha256:
        raise ArchiveError(f"{path} changed while it was checked; run again.")
    class_counts = archive.class_counts(len(names))
    by_split = {
        f"n_{split}": ", ".join(f"{n} {name}" for n, name in zip(counts, names, strict=True))
        for split, counts in class_counts.items()
    }
    return {
        **_previews(archive, names),
        "n": archive.n,
        "sha256": archive.sha256,
        "md5": archive.md5,
        "status": archive.status,
        "size": profile.data.size,
    } | by_split


def _previews(archive: "Archive", names: tuple[str, ...]) -> dict[str, Any]:
    """The first train images of each class, one row per class."""
    train = archive.splits["train"]
    rows = [(train.labels == label).nonzero()[0][:COLUMNS].tolist() for label in range(len(names))]
    images = {name: train.take(indices) for name, indices in zip(names, rows, strict=True)}
    pictures = image_preview([image for group in images.values() for image in group], "train images")
    preview = f"train, one row per class: {', '.join(names)}\n\n{pictures}"
    return {"inline": inline_images(images), "preview": preview}
