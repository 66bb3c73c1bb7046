"""`lora_subset`."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import image_preview, table_preview
from vdm_pipeline.incremental.project import Project, Upstream


@pipeline_asset(group="training", kinds={"pillow"})
def lora_subset(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Balanced train images with captions, in the imagefolder format.

    Settings: `[subset]`, `[classes]`. Automatic labels choose confident images that differ from one another; the true labels only
    measure (`purity`). Beside it, `data/subset_held_out` holds val images for the validation loss.
    """
    import numpy as np
    import pandas as pd

    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.data.near_duplicates import Whitening
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.labelling.labels import read_labels
    from vdm_pipeline.stages.subset.select import choose, choose_held_out, left_out_ids, write_subset

    profile = project.profile
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names)
    embeddings = np.concatenate(list(read_embeddings(upstream["image_embeddings"]["folder"], "train")))
    faults = pd.read_csv(upstream["data_faults"]["table"])
    left_out = left_out_ids(faults, pd.read_csv(upstream["label_noise"]["table"]), profile.subset)
    table = read_labels(upstream["labeled_dataset"]["table"])
    chosen = choose(table, Whitening.of(embeddings)(embeddings), left_out, profile.subset, profile.classes)
    rows = write_subset(staging / "subset", chosen, archive, "train", profile.classes)
    held_out = choose_held_out(table, faults, profile.subset, profile.classes)
    write_subset(staging / "subset_held_out", held_out, archive, "val", profile.classes)
    pure = sum(row["label"] == row["ground_truth"] for row in rows) / len(rows)
    context.log.info(f"{len(rows)} images, {pure:.1%} of them with the true label (measured, not used)")
    pictures = read_folder(staging / "subset", rows[:: max(1, len(rows) // 16)][:16])
    return {
        "n": len(rows),
        "n_held_out": len(held_out),
        "left_out": len(left_out),
        "purity": round(pure, 4),
        "preview": f"{image_preview(list(pictures), 'subset')}\n\n{table_preview(pd.DataFrame(rows[:5]))}",
    }
