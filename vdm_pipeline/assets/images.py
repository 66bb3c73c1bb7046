"""`generated_images` and `baseline_images`: one plan, with and without our adapter."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.materialize import Ticker, materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="images", kinds={"pytorch", "huggingface"}, pool="gpu")
def generated_images(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], lora_weights: Stored) -> dg.MaterializeResult:
    """Stable Diffusion with LCM-LoRA and our LoRA."""
    return materialize(context, run, lambda staging: _arm(context, run, staging / "generated_images", lora_weights["folder"]))


@dg.asset(group_name="images", kinds={"pytorch", "huggingface"}, pool="gpu", deps=["raw_npz"])
def baseline_images(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> dg.MaterializeResult:
    """The same prompts, seeds, steps and size with LCM-LoRA alone.

    It reads nothing of `raw_npz`; it waits for it, so that a bad archive stops the run before anything is drawn.
    """
    return materialize(context, run, lambda staging: _arm(context, run, staging / "generated_images_no_fine_tuning", None))


def _arm(context: dg.AssetExecutionContext, run: Run, folder: Path, lora: Path | None) -> dict[str, Any]:
    from vdm_pipeline.io.images import data_uri, image_grid, read_folder
    from vdm_pipeline.stages.device import pick_device, pick_dtype
    from vdm_pipeline.stages.models import resolve_model
    from vdm_pipeline.stages.sampling import Adapter, generate, plan

    generation, training = run.profile.generation, run.profile.training
    adapters = [Adapter("lcm", resolve_model(generation.lcm_lora), generation.lcm_weight)]
    if lora is not None:
        adapters.append(Adapter("lora", lora, generation.adapter_weight))
    folder.mkdir(exist_ok=True)
    device = pick_device(run.profile.execution.device)
    rows = generate(
        base=resolve_model(training.base),
        adapters=adapters,
        shots=plan(run.profile.classes, generation),
        generation=generation,
        size=training.resolution,
        folder=folder,
        base_model=training.base.id,
        device=device,
        dtype=pick_dtype(device),
        batch=run.profile.execution.image_batch,
        progress=Ticker(context, "generating"),
    )
    step = max(1, len(rows) // 16)
    sheet = image_grid(list(read_folder(folder, rows[::step][:16])), columns=8)
    return {"n": len(rows), "preview": f"![images]({data_uri(sheet)})"}
