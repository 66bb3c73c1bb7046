"""`generated_images`, `baseline_images` and `extra_images`: one plan for all arms."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.assets.materialize import Ticker, materialize
from vdm_pipeline.assets.preview import sheet
from vdm_pipeline.resources import Run, Stored

if TYPE_CHECKING:
    from vdm_pipeline.stages.sampling.plan import Arm


@dg.asset(group_name="images", kinds={"pytorch", "huggingface"}, pool="gpu")
def generated_images(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], lora_weights: Stored) -> dg.MaterializeResult:
    """Stable Diffusion with LCM-LoRA and our LoRA."""
    return materialize(context, run, lambda staging: _main_arm(context, run, staging / "generated_images", lora_weights["folder"]))


@dg.asset(group_name="images", kinds={"pytorch", "huggingface"}, pool="gpu", deps=["raw_npz"])
def baseline_images(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """The same prompts, seeds, steps and size with LCM-LoRA alone.

    It reads nothing of `raw_npz`; it waits for it, so that a bad archive stops the run before anything is drawn.
    """
    return materialize(context, run, lambda staging: _main_arm(context, run, staging / "generated_images_no_fine_tuning", None))


@dg.asset(group_name="images", kinds={"pytorch", "huggingface"}, pool="gpu")
def extra_images(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], lora_weights: Stored) -> dg.MaterializeResult:
    """The same prompts and seeds, a folder an arm of ``generation.extra``: other schedulers, other weights of our LoRA."""

    def work(staging: Path) -> dict[str, Any]:
        from vdm_pipeline.io.tables import write_json
        from vdm_pipeline.stages.models import resolve_model
        from vdm_pipeline.stages.sampling.plan import extra_arm

        folder, extra, generation = staging / "generated_images_extra", run.profile.generation.extra, run.profile.generation
        previews, counts = [], {}
        base, lcm = resolve_model(run.profile.training.base), resolve_model(generation.lcm_lora)
        for asked in extra:
            arm = extra_arm(run.profile, asked, base, lcm, lora_weights["folder"])
            facts = _draw(context, run, folder / asked.name, arm, asked.name)
            previews.append(f"{asked.name}\n\n{facts['preview']}")
            counts[f"n_{asked.name}"] = facts["n"]
        write_json(folder / "arms.json", [asked.name for asked in extra])
        return counts | {"arms": len(extra), "preview": "\n\n".join(previews) or "no extra arm is asked for"}

    return materialize(context, run, work)


def _main_arm(context: dg.AssetExecutionContext, run: Run, folder: Path, lora: Path | None) -> dict[str, Any]:
    from vdm_pipeline.stages.models import resolve_model
    from vdm_pipeline.stages.sampling.plan import main_arm

    base, lcm = resolve_model(run.profile.training.base), resolve_model(run.profile.generation.lcm_lora)
    return _draw(context, run, folder, main_arm(run.profile, base, lcm, lora), "generating")


def _draw(context: dg.AssetExecutionContext, run: Run, folder: Path, arm: "Arm", what: str) -> dict[str, Any]:
    """Draw the plan by the arm; the number of images and a preview."""
    from vdm_pipeline.io.images import read_folder
    from vdm_pipeline.stages.sampling.job import Job
    from vdm_pipeline.stages.sampling.launch import generate
    from vdm_pipeline.stages.sampling.plan import plan

    shots = plan(run.profile.classes, run.profile.generation)
    job = Job(arm=arm, shots=tuple(shots), folder=folder, execution=run.profile.execution)
    rows = generate(job, context.log.info, Ticker(context, what))
    step = max(1, len(rows) // 16)
    return {"n": len(rows), "preview": sheet(list(read_folder(folder, rows[::step][:16])), what)}
