"""`lora_subset`: the training images of the LoRA."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import image_preview, inline_images, table_preview
from vdm_pipeline.incremental.project import Project, Upstream

PREVIEW_IMAGES = 16


@pipeline_asset(group="subset", kinds={"pillow"})
def lora_subset(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Train images with captions, balanced by class, in the imagefolder format.

    Settings: `[subset]`, `[classes]`. With automatic labels, the images are confidently labelled and diverse,
    and the true labels only measure `purity`. `data/subset_held_out` has val images for the validation loss.
    """
    import numpy as np
    import pandas as pd

    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.data.near_duplicates import Whitening
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.labelling.labels import read_labels
    from vdm_pipeline.stages.subset.select import excluded_ids, select_subset, select_validation, write_subset

    subset, classes = project.profile.subset, project.profile.classes
    archive = read_archive(upstream["raw_npz"]["archive"], project.profile.data, classes.names)
    embeddings = np.concatenate(list(read_embeddings(upstream["image_embeddings"]["folder"], "train")))
    faults = pd.read_csv(upstream["data_faults"]["table"])
    excluded = excluded_ids(faults, pd.read_csv(upstream["label_noise"]["table"]), subset)
    table = read_labels(upstream["labeled_dataset"]["table"])
    vectors = Whitening.fit(embeddings)(embeddings)
    selected = select_subset(table, vectors, excluded, subset, classes)
    rows = write_subset(staging / "subset", selected, archive, "train", subset, classes)
    held_out = select_validation(table, faults, subset, classes)
    write_subset(staging / "subset_held_out", held_out, archive, "val", subset, classes)
    purity = sum(row["label"] == row["ground_truth"] for row in rows) / len(rows)
    context.log.info(f"{len(rows)} images; purity {purity:.1%} (measured only)")
    return {
        "n": len(rows),
        "n_held_out": len(held_out),
        "excluded": len(excluded),
        "purity": round(purity, 4),
        **_previews(staging / "subset", rows, classes.names),
    }


def _previews(folder: Path, rows: list[dict[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """Some images, inline by class and as a sheet, and the first rows."""
    import pandas as pd

    from vdm_pipeline.io.images import read_folder

    shown = rows[:: max(1, len(rows) // PREVIEW_IMAGES)][:PREVIEW_IMAGES]
    images = read_folder(folder, shown)
    by_class = {
        name: [image for image, row in zip(images, shown, strict=True) if row["label"] == name]
        for name in class_names
    }
    return {
        "inline": inline_images(by_class),
        "preview": f"{image_preview(list(images), 'subset')}\n\n{table_preview(pd.DataFrame(rows[:5]))}",
    }
