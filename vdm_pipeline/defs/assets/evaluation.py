"""`image_metrics` and `pipeline_summary`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import file_preview, inline_plots, table_preview
from vdm_pipeline.defs.progress import ProgressLogger
from vdm_pipeline.graph import REPORTED_ASSETS
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.evaluation.arms import BASELINE, LORA, REAL
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from vdm_pipeline.stages.evaluation.estimate import Estimate
    from vdm_pipeline.stages.evaluation.features import Space
    from vdm_pipeline.stages.evaluation.inputs import EvaluationInputs
    from vdm_pipeline.stages.evaluation.results import ArmMetrics, ImageMetrics


@pipeline_asset(group="evaluation", kinds={"pytorch"}, gpus="one")
def image_metrics(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Compare generated images with held-out real images: fidelity, paired differences, copies, and utility.

    Settings: `[evaluation]`. Metrics are computed in two feature spaces and have 95 % intervals. The row
    *real* scores unseen real images: what real images score at this sample size.
    """
    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.evaluation.evaluate import evaluate
    from vdm_pipeline.stages.evaluation.to_json import image_metrics_json
    from vdm_pipeline.stages.report.plots.images import image_figures
    from vdm_pipeline.stages.runtime.device import pick_device

    profile, device = project.profile, pick_device(project.profile.execution.device)
    inputs = _evaluation_inputs(profile, upstream)
    spaces = _feature_spaces(context, profile, inputs, device)
    metrics = evaluate(inputs, spaces, profile.evaluation, device, context.log.info)
    report = image_metrics_json(metrics)
    write_json(staging / "metrics/image_metrics.json", report)
    figures = image_figures(report, profile.classes.names)
    plots = _save_plots(figures, staging / "metrics/image_plots")
    return _metadata(metrics, plots) | _main_figures(report) | {"inline": inline_plots(figures)}


def _evaluation_inputs(profile: Profile, upstream: Upstream) -> "EvaluationInputs":
    import pandas as pd

    from vdm_pipeline.stages.data.archive import read_archive
    from vdm_pipeline.stages.evaluation.inputs import EvaluationInputs

    return EvaluationInputs(
        archive=read_archive(upstream["raw_npz"]["archive"], profile.data, profile.classes.names),
        faults=pd.read_csv(upstream["data_faults"]["table"], dtype=str),
        subset=upstream["lora_subset"]["folder"],
        arms=_arm_folders(upstream),
        class_names=profile.classes.names,
        resolution=profile.training.resolution,
    )


def _arm_folders(upstream: Upstream) -> dict[str, Path]:
    from vdm_pipeline.io.tables import read_json

    extra = upstream["extra_images"]["folder"]
    return {
        BASELINE: upstream["baseline_images"]["folder"],
        LORA: upstream["generated_images"]["folder"],
        **{name: extra / name for name in read_json(extra / "arms.json")},
    }


def _feature_spaces(
    context: dg.AssetExecutionContext,
    profile: Profile,
    inputs: "EvaluationInputs",
    device: "torch.device",
) -> dict[str, "Space"]:
    """The labeller's feature space, and one that does not depend on the labeller."""
    return {
        LABELLER: _labeller_space(context, profile, device),
        INDEPENDENT: _independent_space(context, profile, inputs, device),
    }


def _labeller_space(context: dg.AssetExecutionContext, profile: Profile, device: "torch.device") -> "Space":
    from vdm_pipeline.stages.evaluation.features import Space
    from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
    from vdm_pipeline.stages.models.clip_conversion import labeller_folder

    labeller = ZeroShot(labeller_folder(profile.labelling, context.log.info), device)
    batch_size = profile.execution.label_batch_size
    return Space(
        f"embeddings of the labeller, {profile.labelling.model.id}",
        lambda images: labeller.embed(images, batch_size, ProgressLogger(context, "embedding")),
    )


def _independent_space(
    context: dg.AssetExecutionContext,
    profile: Profile,
    inputs: "EvaluationInputs",
    device: "torch.device",
) -> "Space":
    """The vision transformer `evaluation.features`, or handcrafted features without it."""
    from vdm_pipeline.io.images import resize
    from vdm_pipeline.stages.evaluation.features import Space, VisionTransformer, handcrafted
    from vdm_pipeline.stages.models.pins import resolve_model

    pin = profile.evaluation.features
    if pin is None:
        train = resize(inputs.archive.splits["train"].images, profile.training.resolution)
        return handcrafted(train, profile.evaluation.seed)
    transformer = VisionTransformer(resolve_model(pin, context.log.info), device)
    batch_size = profile.execution.label_batch_size
    return Space(
        f"class token of {pin.id}",
        lambda images: transformer.embed(images, batch_size, ProgressLogger(context, "features")),
    )


def _save_plots(figures: "Mapping[str, Figure]", folder: Path) -> list[Path]:
    """Save the plots as PNG; returns their paths by name."""
    from vdm_pipeline.stages.report.plots.figure import save_figure

    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return sorted(folder.glob("*.png"))


def _metadata(metrics: "ImageMetrics", plots: Sequence[Path]) -> dict[str, Any]:
    """KID of the arms, the judge's accuracy, and a preview with a table and the plots."""
    import pandas as pd

    arms = {REAL: metrics.real, BASELINE: metrics.arms[BASELINE], LORA: metrics.arms[LORA]}
    table = pd.DataFrame({name: _overall_values(arm) for name, arm in arms.items()})
    pictures = map(file_preview, plots)
    return {
        **_labeller_kid(arms),
        "judge_accuracy": metrics.judge.accuracy,
        "preview": "\n\n".join([table_preview(table, index=True), *pictures]),
    }


def _main_figures(report: dict[str, Any]) -> dict[str, float]:
    """Means of each arm, and the gain of a classifier; the UI plots them over the materializations."""
    from vdm_pipeline.stages.report.metric_values import lookup

    figures = {
        f"{metric}_{arm}": lookup(report, arm, "overall", metric, "value")
        for metric in ("label_agreement", "sharpness")
        for arm in (REAL, BASELINE, LORA)
    }
    figures["utility_gain"] = lookup(report, "utility", "gains", "real_twice", "value")
    return {name: round(value, 4) for name, value in figures.items() if value is not None}


def _labeller_kid(arms: "dict[str, ArmMetrics]") -> dict[str, float]:
    """KID in the labeller's space, of the arms that have it."""
    spaces = {name: arm.overall.spaces[LABELLER] for name, arm in arms.items()}
    return {f"kid_{name}": round(space.kid.value, 5) for name, space in spaces.items() if space}


def _overall_values(arm: "ArmMetrics") -> dict[str, float]:
    """The overall metrics that an arm has; those of the independent space are marked."""
    group = arm.overall
    labeller, independent = group.spaces[LABELLER], group.spaces[INDEPENDENT]
    estimates: dict[str, Estimate] = {}
    if labeller:
        estimates |= vars(labeller)
    if group.means:
        estimates |= vars(group.means)
    if group.ms_ssim:
        estimates["ms_ssim"] = group.ms_ssim
    if independent:
        estimates |= {f"{name}, {INDEPENDENT}": estimate for name, estimate in vars(independent).items()}
    return {name: round(estimate.value, 4) for name, estimate in estimates.items()}


@pipeline_asset(group="evaluation", kinds={"json"})
def pipeline_summary(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Settings, models, data, seeds, versions, cost and metrics of the whole pipeline in one JSON file."""
    import pandas as pd

    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.report.summary import summarize

    manifests = {name: m for name in REPORTED_ASSETS if (m := project.store.manifest(name))}
    summary = summarize(project.profile, manifests, project.store.root)
    write_json(staging / "pipeline_summary.json", summary)
    cost = pd.DataFrame({key: summary[key] for key in ("durations_s", "peak_memory_mb")})
    return {
        "total_seconds": round(sum(summary["durations_s"].values()), 1),
        "num_generated": summary["num_generated"],
        "preview": table_preview(cost, index=True),
    }
