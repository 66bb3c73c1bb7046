"""`image_metrics` and `pipeline_summary`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import table_preview
from vdm_pipeline.defs.progress import ProgressLogger
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    import torch

    from vdm_pipeline.stages.data.archive import Archive
    from vdm_pipeline.stages.evaluation.features import Space


@pipeline_asset(group="evaluation", kinds={"pytorch"}, gpus="one")
def image_metrics(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """The arms against held-out real images: fidelity, pairs, copies of training images, and utility.

    Settings: `[evaluation]`. Every figure stands in two feature spaces, with an interval, and beside real images at the same
    number, which is the floor that no generator can beat.
    """
    import pandas as pd

    from vdm_pipeline.io.images import file_uri
    from vdm_pipeline.io.tables import read_json, write_json
    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.evaluation.evaluate import EvaluationInputs, evaluate
    from vdm_pipeline.stages.report.plots.figure import save_figure
    from vdm_pipeline.stages.report.plots.images import image_figures
    from vdm_pipeline.stages.runtime.device import pick_device

    profile, device = project.profile, pick_device(project.profile.execution.device)
    archive = read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names)
    extra = upstream["extra_images"]["folder"]
    what = EvaluationInputs(
        archive=archive,
        faults=pd.read_csv(upstream["data_faults"]["table"], dtype=str),
        subset=upstream["lora_subset"]["folder"],
        arms={
            "baseline": upstream["baseline_images"]["folder"],
            "lora": upstream["generated_images"]["folder"],
        }
        | {name: extra / name for name in read_json(extra / "arms.json")},
        class_names=profile.classes.names,
        resolution=profile.training.resolution,
    )
    report = evaluate(
        what, _spaces(context, project, archive, device), profile.evaluation, device, context.log.info
    )
    write_json(staging / "metrics/image_metrics.json", {"profile": profile.name, **report})
    plots = staging / "metrics/image_plots"
    plots.mkdir(exist_ok=True)
    for name, figure in image_figures(report, profile.classes.names).items():
        save_figure(figure, plots / f"{name}.png")
    pictures = [f"![{path.stem}]({file_uri(path)})" for path in sorted(plots.glob("*.png"))]
    rows = pd.DataFrame({arm: _overall(report[arm]["overall"]) for arm in ("real", "baseline", "lora")})
    kid = {f"kid_{arm}": round(found["value"], 5) for arm in rows if (found := report[arm]["overall"]["kid"])}
    return kid | {
        "judge_accuracy": report["judge"]["accuracy_held_out"],
        "preview": "\n\n".join([table_preview(rows, index=True), *pictures]),
    }


def _spaces(
    context: dg.AssetExecutionContext, project: Project, archive: "Archive", device: "torch.device"
) -> dict[str, "Space"]:
    """The labeller's space, and one that the labeller has no part in."""
    from vdm_pipeline.io.images import resize
    from vdm_pipeline.stages.evaluation.features import Network, Space, handcrafted
    from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
    from vdm_pipeline.stages.models.clip_conversion import labeller_folder
    from vdm_pipeline.stages.models.pins import resolve_model

    profile = project.profile
    model, pin, batch = (
        profile.labelling.model,
        profile.evaluation.features,
        profile.execution.label_batch_size,
    )
    labeller = ZeroShot(labeller_folder(profile.labelling, context.log.info), device)
    if pin is None:
        independent = handcrafted(
            resize(archive.splits["train"].images, profile.training.resolution), profile.evaluation.seed
        )
    else:
        network = Network(resolve_model(pin, context.log.info), device)
        independent = Space(
            f"class token of {pin.id}",
            lambda images: network.embed(images, batch, ProgressLogger(context, "features")),
        )
    return {
        "labeller": Space(
            f"embeddings of the labeller, {model.id}",
            lambda images: labeller.embed(images, batch, ProgressLogger(context, "embedding")),
        ),
        "independent": independent,
    }


def _overall(values: dict[str, Any]) -> dict[str, float]:
    """The figures of one arm, those of the second space marked."""
    owned_path = {
        key: value["value"] for key, value in values.items() if isinstance(value, dict) and "value" in value
    }
    second = {f"{key}, independent": value["value"] for key, value in values["independent"].items() if value}
    return {key: round(value, 4) for key, value in (owned_path | second).items()}


@pipeline_asset(group="evaluation", kinds={"json"})
def pipeline_summary(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Everything about the run in one JSON: settings, models, data, seeds, versions, cost and metrics."""
    import pandas as pd

    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.report.summary import summarize

    manifests = {name: m for name in upstream if (m := project.store.manifest(name))}
    summary = summarize(project.profile, manifests, project.store.root)
    write_json(staging / "pipeline_summary.json", summary)
    cost = pd.DataFrame({key: summary[key] for key in ("durations_s", "peak_memory_mb")})
    seconds = round(sum(summary["durations_s"].values()), 1)
    return {
        "total_seconds": seconds,
        "num_generated": summary["num_generated"],
        "preview": table_preview(cost, index=True),
    }
