"""`data_faults` and `label_noise`: faulty images and suspect labels."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import image_preview, inline_images, table_preview
from vdm_pipeline.incremental.project import Project, Upstream

PREVIEW_IMAGES = 16
"""Suspect labels that Dagster shows with their images."""


@pipeline_asset(group="labelling", kinds={"csv"})
def data_faults(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Images that are duplicates within or across splits, blank or saturated; and the images per class.

    Settings: `[faults]`. Nothing is removed from the archive. The subset excludes the faults listed in
    `subset.exclude`, and always excludes training images that are also in val or test.
    """
    from functools import partial

    from vdm_pipeline.io.tables import write_csv, write_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.data.quality import count_faults, find_faults
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings

    profile, names = project.profile, project.profile.classes.names
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, names)
    embeddings = partial(read_embeddings, upstream["image_embeddings"]["folder"])
    table = find_faults(archive, embeddings, profile.faults)
    counts = count_faults(table, archive, names)
    write_csv(staging / "metrics/data_faults.csv", table)
    write_json(staging / "metrics/data_faults.json", counts)
    for fault, by_split in counts["faults"].items():
        context.log.warning(f"{fault}: " + ", ".join(f"{n} in {split}" for split, n in by_split.items()))
    by_fault = {fault: str(by_split) for fault, by_split in counts["faults"].items()}
    faulty = int(table["image_id"].nunique())
    return by_fault | {"faulty": faulty, "preview": table_preview(table.head(20))}


@pipeline_asset(group="labelling", kinds={"scikitlearn", "csv"})
def label_noise(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Train labels that are probably wrong, the most suspect first. The subset excludes them by default.

    Confident learning (Northcutt et al. 2021) on cross-validated probabilities of a classifier on the
    embeddings. It checks the labels that the captions come from. A suspect label is not a proof: look at the
    images.
    """
    import numpy as np

    from vdm_pipeline.io.tables import write_csv
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.labelling.label_noise import FOLDS, find_suspects, rare_classes
    from vdm_pipeline.stages.labelling.labels import read_labels

    profile, names = project.profile, project.profile.classes.names
    table = read_labels(upstream["labeled_dataset"]["table"])
    train = table[table["split"] == "train"]
    column = "auto_label" if profile.subset.captions_from == "auto_label" else "ground_truth_label"
    embeddings = np.concatenate(list(read_embeddings(upstream["image_embeddings"]["folder"], "train")))
    for name in rare_classes(train[column], names):
        context.log.warning(f"class {name} has fewer than {FOLDS} train labels, too few to check them")
    suspects = find_suspects(embeddings, train, column, names, profile.subset.seed)
    write_csv(staging / "metrics/label_suspects.csv", suspects)
    preview, inline = table_preview(suspects.head(PREVIEW_IMAGES)), {}
    if len(suspects):
        archive = read_archive(upstream["raw_npz"]["archive"], profile.data, names)
        images = archive.images_by_id("train", suspects["image_id"].head(PREVIEW_IMAGES))
        preview = f"{image_preview(list(images), 'most suspect first')}\n\n{preview}"
        inline = inline_images({"most_suspect": images})
    return {
        "suspects": len(suspects),
        "suspect_share": round(len(suspects) / len(train), 4),
        "label_column": column,
        "inline": inline,
        "preview": preview,
    }
