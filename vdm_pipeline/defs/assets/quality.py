"""`data_faults` and `label_noise`: what is wrong with the images, and which labels are doubted."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import table_preview
from vdm_pipeline.incremental.project import Project, Upstream


@pipeline_asset(group="labels", kinds={"csv"})
def data_faults(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Images that stand twice, inside a split or across splits, that are blank, or burnt out; and the balance of the classes.

    Settings: `[faults]`. Nothing is removed from the archive; the subset leaves these images out, and no training image that also
    stands in val or test is ever learnt from.
    """
    from functools import partial

    from vdm_pipeline.io.tables import write_csv, write_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.data.quality import count_faults, find_faults
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings

    profile = project.profile
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names)
    table = find_faults(
        archive, partial(read_embeddings, upstream["image_embeddings"]["folder"]), profile.faults
    )
    counts = count_faults(table, archive, profile.classes.names)
    write_csv(staging / "metrics/data_faults.csv", table)
    write_json(staging / "metrics/data_faults.json", counts)
    for fault, places in counts["faults"].items():
        context.log.warning(
            f"{fault}: " + ", ".join(f"{count} in {place}" for place, count in places.items())
        )
    return {fault: str(places) for fault, places in counts["faults"].items()} | {
        "preview": table_preview(table.head(20))
    }


@pipeline_asset(group="labels", kinds={"scikitlearn", "csv"})
def label_noise(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Train labels that a probe on the embeddings doubts; the labels are those that the subset captions by.

    Confident learning (Northcutt et al. 2021) on cross-validated probabilities, worst first. A doubt is no proof: look at the
    pictures. The subset leaves the doubted ones out.
    """
    import numpy as np

    from vdm_pipeline.io.images import data_uri, image_grid
    from vdm_pipeline.io.tables import write_csv
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.labelling.embeddings import read_embeddings
    from vdm_pipeline.stages.labelling.label_noise import FOLDS, find_suspects, too_rare
    from vdm_pipeline.stages.labelling.labels import read_labels

    profile = project.profile
    table = read_labels(upstream["labeled_dataset"]["table"])
    train = table[table["split"] == "train"]
    column = "auto_label" if profile.subset.captions_from == "auto_label" else "ground_truth_label"
    embeddings = np.concatenate(list(read_embeddings(upstream["image_embeddings"]["folder"], "train")))
    for name in too_rare(train[column], profile.classes.names):
        context.log.warning(
            f"{name}: fewer than {FOLDS} train labels, too few for a second opinion; none of them is doubted."
        )
    suspects = find_suspects(embeddings, train, column, profile.classes.names, profile.subset.seed)
    write_csv(staging / "metrics/label_suspects.csv", suspects)
    preview = table_preview(suspects.head(16))
    if len(suspects):
        archive = read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names)
        worst = archive.pictures("train", suspects["image_id"].head(16))
        preview = f"![suspects, worst first]({data_uri(image_grid(list(worst), columns=8))})\n\n{preview}"
    return {
        "suspects": len(suspects),
        "share": round(len(suspects) / len(train), 4),
        "doubted": column,
        "preview": preview,
    }
