"""`image_metrics` and `pipeline_summary`."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.catalogue import MADE
from vdm_pipeline.assets.materialize import Ticker, materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="evaluation", kinds={"pytorch"}, pool="gpu")
def image_metrics(
    context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], raw_npz: Stored, generated_images: Stored, baseline_images: Stored
) -> dg.MaterializeResult:
    """Both arms against held-out real images, beside real against real."""

    def work(staging: Path) -> dict[str, Any]:
        import pandas as pd

        from vdm_pipeline.io.tables import write_json
        from vdm_pipeline.stages.archive import read_archive
        from vdm_pipeline.stages.device import pick_device
        from vdm_pipeline.stages.evaluation import evaluate
        from vdm_pipeline.stages.models import resolve_model
        from vdm_pipeline.stages.zero_shot import ZeroShot

        profile = run.profile
        device = pick_device(profile.execution.device)
        labeller = ZeroShot(resolve_model(profile.labelling.model), device)
        report = evaluate(
            archive=read_archive(raw_npz["archive"], profile.data, profile.classes.names),
            arms={"baseline": baseline_images["folder"], "lora": generated_images["folder"]},
            class_names=profile.classes.names,
            resolution=profile.training.resolution,
            embed=lambda images: labeller.embed(images, profile.execution.label_batch, Ticker(context, "embedding")),
            feature_space=f"embeddings of the labeller, {profile.labelling.model.id}",
            evaluation=profile.evaluation,
            device=device,
        )
        write_json(staging / "metrics/image_metrics.json", {"profile": profile.name, **report})
        rows = {
            arm: {
                f"{key} ({group})": value["value"]
                for group, values in report[arm].items()
                for key, value in values.items()
                if isinstance(value, dict)
            }
            for arm in ("real", "baseline", "lora")
        }
        table = pd.DataFrame(rows)
        kid = {f"kid_{arm}": round(found["value"], 5) for arm in rows if (found := report[arm]["overall"]["kid"])}
        return kid | {"judge_accuracy": report["judge"]["accuracy_held_out"], "preview": table.round(4).to_markdown()}

    return materialize(context, run, work)


@dg.asset(group_name="evaluation", kinds={"json"}, ins={name: dg.AssetIn(name) for name in MADE})
def pipeline_summary(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], **made: Stored) -> dg.MaterializeResult:
    """Everything about the run in one JSON: settings, models, data, seeds, versions, cost and metrics."""

    def work(staging: Path) -> dict[str, Any]:
        from vdm_pipeline.io.tables import write_json
        from vdm_pipeline.stages.summary import summarize

        manifests = {name: m for name in made if (m := run.store.manifest(name))}
        summary = summarize(run.profile, manifests, run.store.root)
        write_json(staging / "pipeline_summary.json", summary)
        return {"total_seconds": round(sum(summary["durations_s"].values()), 1), "num_generated": summary["num_generated"]}

    return materialize(context, run, work)
