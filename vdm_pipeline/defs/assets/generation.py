"""`generated_images`, `baseline_images` and `extra_images`: one plan for all arms."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset, ray_device_metadata
from vdm_pipeline.defs.previews import image_preview
from vdm_pipeline.defs.progress import ProgressLogger
from vdm_pipeline.graph import has_current_stage_version
from vdm_pipeline.incremental.project import Project, Upstream

if TYPE_CHECKING:
    from vdm_pipeline.stages.generation.job import Job
    from vdm_pipeline.stages.generation.plan import Arm


@pipeline_asset(group="generation", kinds={"pytorch", "huggingface"}, gpus="one per process", supports_ray=True)
def generated_images(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Stable Diffusion with LCM-LoRA and our LoRA: what all of this is for.

    Settings: `[generation]`. Image i has a prompt, a seed and a record of its own, in its PNG and in `metadata.jsonl`. A larger
    `per_class` draws the new images alone; a deleted or repainted one alone is drawn again.
    """
    return _main_arm(context, project, staging / "generated_images", upstream["lora_weights"]["folder"])


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
    """The same prompts, seeds, steps and size with LCM-LoRA alone: what the base draws without our LoRA.

    It is made from no other asset, and late, so that a bad archive is told before anything is drawn.
    """
    return _main_arm(context, project, staging / "generated_images_no_fine_tuning", None)


@pipeline_asset(group="generation", kinds={"pytorch", "huggingface"}, gpus="one per process", supports_ray=True)
def extra_images(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """The same prompts and seeds, a folder an arm of `generation.extra`: other schedulers, other weights of our LoRA.

    They show how much of a difference is the LoRA's, and how much LCM's, whose four steps cost variety.
    """
    from vdm_pipeline.io.tables import write_json
    from vdm_pipeline.stages.generation.plan import extra_arm
    from vdm_pipeline.stages.models.pins import resolve_model

    folder, extra, generation = (
        staging / "generated_images_extra",
        project.profile.generation.extra,
        project.profile.generation,
    )
    previews: list[str] = []
    counts: dict[str, Any] = {}
    base, lcm = (
        resolve_model(pin, context.log.info) for pin in (project.profile.training.base, generation.lcm_lora)
    )
    for asked in extra:
        arm = extra_arm(project.profile, asked, base, lcm, upstream["lora_weights"]["folder"])
        facts = _draw(
            context, project, folder / asked.name, arm, project.paths("extra_images")["folder"] / asked.name
        )
        previews.append(f"{asked.name}\n\n{facts.pop('preview')}")
        counts |= {f"{key}_{asked.name}": value for key, value in facts.items()}
    write_json(folder / "arms.json", [asked.name for asked in extra])
    return counts | {"arms": len(extra), "preview": "\n\n".join(previews) or "no extra arm is asked for"}


def _main_arm(
    context: dg.AssetExecutionContext, project: Project, folder: Path, lora: Path | None
) -> dict[str, Any]:
    from vdm_pipeline.stages.generation.plan import main_arm
    from vdm_pipeline.stages.models.pins import resolve_model

    base, lcm = (
        resolve_model(pin, context.log.info)
        for pin in (project.profile.training.base, project.profile.generation.lcm_lora)
    )
    place = project.paths(context.asset_key.to_user_string())["folder"]
    return _draw(context, project, folder, main_arm(project.profile, base, lcm, lora), place)


def _draw(
    context: dg.AssetExecutionContext, project: Project, folder: Path, arm: "Arm", place: Path
) -> dict[str, Any]:
    """Draw what the plan asks for beyond the images that stand in ``place``; their number, the rate, and a preview."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.generation.job import Job
    from vdm_pipeline.stages.generation.launch import generate
    from vdm_pipeline.stages.generation.plan import plan

    classes = project.profile.classes
    job = Job(
        arm=arm,
        samples=tuple(plan(classes, project.profile.generation)),
        folder=folder,
        execution=project.profile.execution,
    )
    _take_over(context, project, place, job)
    anew, begun = not any(folder.glob("*.png")), time.perf_counter()
    rows, devices = generate(job, context.log.info, ProgressLogger(context, f"{place.name}: images"))
    rate = {"images_per_s": round(len(rows) / (time.perf_counter() - begun), 1)} if anew else {}
    each = max(1, 16 // len(classes.names))
    first = [row for name in classes.names for row in [row for row in rows if row["label"] == name][:each]]
    return ray_device_metadata(devices) | {
        "n": len(rows),
        **rate,
        "preview": image_preview(
            list(read_folder(folder, first)), f"{each} of each of {', '.join(classes.names)}"
        ),
    }


def _take_over(context: dg.AssetExecutionContext, project: Project, place: Path, job: "Job") -> None:
    """Copy the job's images that are in ``place`` as they were recorded; by its own record each fits the arm, or is drawn."""
    asset = context.asset_key.to_user_string()
    old = project.store.manifest(asset)
    if (
        old is None
        or not has_current_stage_version(asset, old.code_version)
        or project.forced(asset, context.run.tags)
    ):
        return
    asked = {place / shot.file_name for shot in job.samples}
    job.folder.mkdir(parents=True, exist_ok=True)
    for path in project.store.intact_files(old):
        if path in asked and not (job.folder / path.name).exists():
            shutil.copyfile(path, job.folder / path.name)
