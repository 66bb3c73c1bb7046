"""`lora_weights`."""

import shutil
from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.graph import STAGES, code_version
from vdm_pipeline.incremental.project import Project, Upstream


@pipeline_asset(group="training", kinds={"pytorch", "huggingface"}, gpus="one per process")
def lora_weights(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Train a LoRA adapter of the base model on the subset; an interrupted run resumes from its checkpoint.

    Settings: `[training]`. `training_log.csv` and the plot show loss, validation loss, learning rate and
    speed. A sheet of samples is generated at the end. With `lr_scheduler = "constant"`, a larger
    `max_train_steps` resumes from the last checkpoint.
    """
    import pandas as pd

    from vdm_pipeline.io.images import file_uri
    from vdm_pipeline.stages.models.pins import pin_name, resolve_model
    from vdm_pipeline.stages.report.plots.figure import save_figure
    from vdm_pipeline.stages.report.plots.training import loss_figure
    from vdm_pipeline.stages.training.checkpoints import is_finished
    from vdm_pipeline.stages.training.job import Job, resume_key
    from vdm_pipeline.stages.training.launch import run_training

    profile, folder = project.profile, staging / "lora"
    folder.mkdir(exist_ok=True)
    base = pin_name(profile.training.base)
    key = resume_key(
        profile.training, upstream["lora_subset"].data_version, base, STAGES["lora_weights"].version
    )
    state = project.store.owned_path(f"results/.training/{key}")
    forced = project.forced("lora_weights", context.run.tags)
    if forced and is_finished(state, profile.training.max_train_steps):
        shutil.rmtree(state)
    run_training(
        Job(
            base=resolve_model(profile.training.base, context.log.info),
            subset=upstream["lora_subset"]["folder"],
            held_out=upstream["lora_subset"]["held_out"],
            cache=project.store.owned_path("results/.cache"),
            state=state,
            out=folder,
            training=profile.training,
            execution=profile.execution,
            metadata={
                "settings": profile.training.model_dump_json(),
                "data_version": upstream["lora_subset"].data_version,
                "base_model": base,
                "code_version": code_version("lora_weights", profile),
            },
        ),
        context.log.info,
    )
    for other in state.parent.iterdir():  # trainings with other settings
        if other != state and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other)
    log = pd.read_csv(folder / "training_log.csv")
    save_figure(loss_figure(folder / "training_log.csv"), folder / "loss.png")
    sheets = sorted((folder / "samples").glob("*.png"))
    pictures = [
        f"![loss]({file_uri(folder / 'loss.png')})",
        *(f"{path.stem}\n\n![{path.stem}]({file_uri(path)})" for path in sheets),
    ]
    last = {key: float(value) for key, value in log.iloc[-1].items() if pd.notna(value)}
    return last | {"preview": "\n\n".join(pictures)}
