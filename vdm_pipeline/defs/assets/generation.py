"""`generated_images`, `baseline_images` and `extra_images`: arms that share one plan."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset, ray_device_metadata
from vdm_pipeline.defs.previews import image_preview, inline_images
from vdm_pipeline.defs.progress import ProgressLogger
from vdm_pipeline.graph import has_current_stage_version
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    from vdm_pipeline.stages.generation.job import Job
    from vdm_pipeline.stages.generation.plan import Arm

PREVIEW_IMAGES = 16


@pipeline_asset(
    group="generation", kinds={"pytorch", "huggingface"}, gpus="one per process", supports_ray=True
)
def generated_images(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Synthetic images from Stable Diffusion with LCM-LoRA and the trained LoRA.

    Settings: `[generation]`. Each image has its own prompt and seed; both are recorded in its PNG and in
    `metadata.jsonl`. Only missing images are generated: the new ones after `per_class` is raised, and those
    that were deleted or edited.
    """
    return _generate_main_arm(
        context, project, staging / "generated_images", upstream["lora_weights"]["folder"]
    )


@pipeline_asset(
    group="generation",
    kinds={"pytorch", "huggingface"},
    gpus="one per process",
    supports_ray=True,
    low_priority=True,
)
def baseline_images(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """The baseline: the same prompts, seeds, steps and size with LCM-LoRA, but without the trained LoRA.

    It has no upstream assets. It starts with low priority, so that faults of the archive are reported first.
    """
    return _generate_main_arm(context, project, staging / "generated_images_no_fine_tuning", None)


@pipeline_asset(
    group="generation", kinds={"pytorch", "huggingface"}, gpus="one per process", supports_ray=True
)
def extra_images(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Arms of `generation.extra`: same prompts and seeds, other schedulers or weights of the trained LoRA.

    Each arm has its own folder. The arms show how much of a difference is due to the trained LoRA, and
    how much to LCM, whose few steps reduce diversity.
    """
    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.generation.plan import extra_arm

    folder, extra = staging / "generated_images_extra", project.profile.generation.extra
    published = project.paths("extra_images")["folder"]
    base, lcm = _resolve_models(context, project)
    metadata: dict[str, Any] = {}
    previews: list[str] = []
    inline: dict[str, str] = {}
    for settings in extra:
        name = settings.name
        arm = extra_arm(project.profile, settings, base, lcm, upstream["lora_weights"]["folder"])
        label = f"extra_images: {name}"
        arm_metadata = _generate_arm(context, project, folder / name, arm, published / name, label)
        previews.append(f"{name}\n\n{arm_metadata.pop('preview')}")
        inline |= {f"{key}_{name}": text for key, text in arm_metadata.pop("inline").items()}
        metadata |= {f"{key}_{name}": value for key, value in arm_metadata.items()}
    write_json(folder / "arms.json", [settings.name for settings in extra])
    preview = "\n\n".join(previews) or "no extra arm is configured"
    return metadata | {"arms": len(extra), "inline": inline, "preview": preview}


def _generate_main_arm(
    context: dg.AssetExecutionContext, project: Project, folder: Path, lora: Path | None
) -> dict[str, Any]:
    from vdm_pipeline.stages.generation.plan import main_arm

    base, lcm = _resolve_models(context, project)
    arm = main_arm(project.profile, base, lcm, lora)
    asset = context.asset_key.to_user_string()
    return _generate_arm(context, project, folder, arm, project.paths(asset)["folder"], asset)


def _resolve_models(context: dg.AssetExecutionContext, project: Project) -> tuple[Path, Path]:
    """Folders of the base model and of the LCM-LoRA."""
    from vdm_pipeline.stages.models.pins import resolve_model

    base, lcm = project.profile.training.base, project.profile.generation.lcm_lora
    return resolve_model(base, context.log.info), resolve_model(lcm, context.log.info)


def _generate_arm(
    context: dg.AssetExecutionContext,
    project: Project,
    folder: Path,
    arm: "Arm",
    published: Path,
    label: str,
) -> dict[str, Any]:
    """Generate the arm's images into ``folder``, reusing those in ``published``; returns its metadata.

    ``label`` begins the lines of its progress. ``images_per_s`` is reported only if no image was reused.
    """
    from vdm_pipeline.stages.generation.job import Job
    from vdm_pipeline.stages.generation.launch import generate
    from vdm_pipeline.stages.generation.plan import plan

    profile = project.profile
    samples = tuple(plan(profile.classes, profile.generation))
    job = Job(arm=arm, samples=samples, folder=folder, execution=profile.execution)
    _reuse_images(context, project, published, job)
    all_new, start = not any(folder.glob("*.png")), time.perf_counter()
    rows, devices = generate(job, context.log.info, ProgressLogger(context, f"{label}: images"))
    metadata = ray_device_metadata(devices) | {"n": len(rows)}
    if all_new:
        metadata["images_per_s"] = round(len(rows) / (time.perf_counter() - start), 1)
    return metadata | _previews(folder, rows, profile.classes.names)


def _previews(folder: Path, rows: list[dict[str, Any]], class_names: tuple[str, ...]) -> dict[str, Any]:
    """The first images of each class."""
    from vdm_pipeline.io.images import read_folder

    per_class = max(1, PREVIEW_IMAGES // len(class_names))
    images = {
        name: read_folder(folder, [row for row in rows if row["label"] == name][:per_class])
        for name in class_names
    }
    title = f"{per_class} images each of {', '.join(class_names)}"
    preview = image_preview([image for group in images.values() for image in group], title)
    return {"inline": inline_images(images), "preview": preview}


def _reuse_images(context: dg.AssetExecutionContext, project: Project, published: Path, job: "Job") -> None:
    """Copy the plan's intact images of the last materialization, unless code changed or the run is forced.

    Images of other settings are copied too: `generate` reads their records and generates them again.
    """
    asset = context.asset_key.to_user_string()
    manifest = project.store.manifest(asset)
    if manifest is None or project.forced(asset, context.run.tags):
        return
    if not has_current_stage_version(asset, manifest.code_version):
        return
    planned = {published / sample.file_name for sample in job.samples}
    job.folder.mkdir(parents=True, exist_ok=True)
    for path in project.store.intact_files(manifest):
        if path in planned and not (job.folder / path.name).exists():
            shutil.copyfile(path, job.folder / path.name)
