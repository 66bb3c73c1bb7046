"""`lora_weights`."""

from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.catalogue import code_version
from vdm_pipeline.assets.materialize import materialize
from vdm_pipeline.resources import Run, Stored


@dg.asset(group_name="training", kinds={"pytorch", "huggingface"}, pool="gpu")
def lora_weights(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run], lora_subset: Stored) -> dg.MaterializeResult:
    """LoRA on the base model, trained on the subset; goes on where an interrupted run stopped."""

    def work(staging: Path) -> dict[str, Any]:
        import pandas as pd

        from vdm_pipeline.io.images import read_folder
        from vdm_pipeline.io.tables import read_rows
        from vdm_pipeline.stages.device import device_name, pick_device, pick_dtype
        from vdm_pipeline.stages.lora import train_lora
        from vdm_pipeline.stages.models import pinned_digest, resolve_model
        from vdm_pipeline.stages.plots.figure import save_figure
        from vdm_pipeline.stages.plots.training import loss_figure

        profile, folder = run.profile, staging / "lora"
        folder.mkdir(exist_ok=True)
        rows = read_rows(lora_subset["folder"] / "metadata.jsonl")
        device = pick_device(profile.execution.device)
        context.log.info(f"training on {device_name(device)}")
        train_lora(
            base=resolve_model(profile.training.base),
            images=read_folder(lora_subset["folder"], rows),
            captions=[row["text"] for row in rows],
            training=profile.training,
            folder=folder,
            device=device,
            dtype=pick_dtype(device),
            note={
                "settings": profile.training.model_dump_json(),
                "data_version": lora_subset.data_version,
                "base_model": f"{profile.training.base.id}@{pinned_digest(profile.training.base)}",
                "code_version": code_version("lora_weights", profile),
            },
            image_batch=profile.execution.image_batch,
            checkpoint_every=profile.execution.checkpoint_every,
            log_every=profile.execution.log_every,
            log=context.log.info,
        )
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        log = pd.read_csv(folder / "training_log.csv")
        save_figure(loss_figure(folder / "training_log.csv"), folder / "loss.png")
        last = log.iloc[-1]
        return {"steps": int(last["step"]), "loss": float(last["loss"]), "images_per_s": float(last["images_per_s"])}

    return materialize(context, run, work)
