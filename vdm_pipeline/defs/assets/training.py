"""`lora_weights`: the LoRA adapter of the base model."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from vdm_pipeline.defs.asset_factory import pipeline_asset
from vdm_pipeline.defs.previews import file_preview, inline_plots
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.project import AssetHandle, Project, Upstream

if TYPE_CHECKING:
    from vdm_pipeline.stages.training.job import Job


@pipeline_asset(group="training", kinds={"pytorch", "huggingface"}, gpus="one per process")
def lora_weights(
    context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream
) -> dict[str, Any]:
    """Train a LoRA adapter of the base model on the subset; an interrupted run resumes from its checkpoint.

    Settings: `[training]`. `training_log.csv` and the plot show loss, validation loss, learning rate and
    speed. A sheet of samples is generated at the end. With `lr_scheduler = "constant"`, a larger
    `max_train_steps` resumes from the last checkpoint.
    """
    from vdm_pipeline.stages.report.plots.figure import save_figure
    from vdm_pipeline.stages.report.plots.training import loss_figure
    from vdm_pipeline.stages.training.checkpoints import is_finished
    from vdm_pipeline.stages.training.launch import run_training

    folder = staging / "lora"
    folder.mkdir(exist_ok=True)
    state = _state_folder(project, upstream["lora_subset"])
    forced = project.forced("lora_weights", context.run.tags)
    if forced and is_finished(state, project.profile.training.max_train_steps):
        shutil.rmtree(state)
    run_training(_job(context, project, upstream["lora_subset"], state, folder), context.log.info)
    _remove_other_trainings(state)
    loss = loss_figure(folder / "training_log.csv")
    save_figure(loss, folder / "loss.png")
    return _metadata(folder) | {"inline": inline_plots({"loss": loss})}


def _state_folder(project: Project, subset: AssetHandle) -> Path:
    """Where this training keeps its checkpoints; trainings that share their steps share the folder."""
    from vdm_pipeline.stages.models.pins import pin_name
    from vdm_pipeline.stages.training.job import resume_key

    training, version = project.profile.training, STAGES["lora_weights"].version
    key = resume_key(training, subset.versions["training_set"], pin_name(training.base), version)
    return project.store.owned_path(f"results/.training/{key}")


def _job(
    context: dg.AssetExecutionContext, project: Project, subset: AssetHandle, state: Path, out: Path
) -> "Job":
    from vdm_pipeline.stages.models.pins import pin_name, resolve_model
    from vdm_pipeline.stages.training.job import Job

    training = project.profile.training
    return Job(
        base=resolve_model(training.base, context.log.info),
        subset=subset["folder"],
        held_out=subset["held_out"],
        cache=project.store.owned_path("results/.cache"),
        state=state,
        out=out,
        training=training,
        execution=project.profile.execution,
        metadata={
            "settings": json.dumps(training.fingerprint_values()),
            "data_version": subset.versions["training_set"],
            "base_model": pin_name(training.base),
        },
    )


def _remove_other_trainings(state: Path) -> None:
    """Checkpoints of trainings with other settings, which no run resumes."""
    for other in state.parent.iterdir():
        if other != state and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other)


def _metadata(folder: Path) -> dict[str, Any]:
    """The last row of the training log, the loss curve, and the sample sheets."""
    import pandas as pd

    last = pd.read_csv(folder / "training_log.csv").iloc[-1]
    sheets = sorted((folder / "samples").glob("*.png"))
    pictures = [
        file_preview(folder / "loss.png"),
        *(f"{path.stem}\n\n{file_preview(path)}" for path in sheets),
    ]
    values = {key: float(value) for key, value in last.items() if pd.notna(value)}
    return values | {"preview": "\n\n".join(pictures)}
