"""`raw_npz`: the archive of images."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import image_preview
from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.io.hashing import file_sha256


@pipeline_asset(group="data", kinds={"numpy"})
def raw_npz(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Images and true labels: a MedMNIST archive from data/, MedMNIST's own download, or rendered phantoms.

    Settings: `[data]`, `[classes]`. The archive is checked before anything is made from it: names, shapes, types, labels, counts,
    and MedMNIST's MD5 where one is known. Its content is its data version: the same archive with a new time stamp changes nothing.
    """
    from vdm_pipeline.stages.data.archive import obtain_archive, read_archive

    data, classes = project.profile.data, project.profile.classes
    path = obtain_archive(
        data, project.store.path("data"), context.log.info, project.profile.execution.archive_mirror
    )
    archive = read_archive(path, data, classes.names).verify()
    if archive.status == "unverified":
        context.log.warning(
            f"{path.name}: MD5 {archive.md5} is not MedMNIST's; schema, classes and counts fit. Recorded as unverified."
        )
    if file_sha256(path) != archive.sha256:
        raise ArchiveError(f"{path} was changed while it was looked at; run again.")
    counts = archive.class_counts(len(classes.names))
    train = archive.splits["train"]
    first = [
        row
        for label in range(len(classes.names))
        for row in (train.labels == label).nonzero()[0][:8].tolist()
    ]
    pictures = {
        "preview": f"train, a row a class: {', '.join(classes.names)}\n\n{image_preview(list(train.take(first)), 'train images')}"
    }
    return (
        pictures
        | {
            "n": archive.n,
            "sha256": archive.sha256,
            "md5": archive.md5,
            "status": archive.status,
            "size": data.size,
        }
        | {
            f"n_{split}": ", ".join(
                f"{count} {name}" for name, count in zip(classes.names, values, strict=True)
            )
            for split, values in counts.items()
        }
    )
