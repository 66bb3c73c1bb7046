"""`lora_subset`."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.materialize import materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="training", kinds={"pillow"})
def lora_subset(
    context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], raw_npz: Stored, labeled_dataset: Stored
) -> dg.MaterializeResult:
    """Balanced train images with captions, in the imagefolder format."""

    def work(staging: Path) -> dict[str, Any]:
        import pandas as pd

        from vdm_pipeline.stages.archive import read_archive
        from vdm_pipeline.stages.labels import read_labels
        from vdm_pipeline.stages.subset import choose, write_subset

        profile = run.profile
        archive = read_archive(raw_npz["archive"], profile.data, profile.classes.names)
        chosen = choose(read_labels(labeled_dataset["table"]), archive, profile.subset, profile.classes)
        rows = write_subset(staging / "subset", chosen, archive, profile.classes)
        pure = sum(row["label"] == row["ground_truth"] for row in rows) / len(rows)
        context.log.info(f"{len(rows)} images, {pure:.1%} of them with the true label (measured, not used)")
        return {"n": len(rows), "purity": round(pure, 4), "preview": pd.DataFrame(rows[:5]).to_markdown(index=False)}

    return materialize(context, run, work)
