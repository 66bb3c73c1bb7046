"""What a training leaves: sample sheets on the way, and the adapter's folder at the end."""

import shutil
from pathlib import Path

from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.training.adapter import save_adapter
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.sample_sheet import sample_sheet
from vdm_pipeline.stages.training.session import Session


def write_sample_sheet(session: Session, step: int) -> None:
    """Draw the sheet of ``step`` with the weights that would be saved now."""
    vae = load_component(session.job.base, "vae", session.dtype).to(session.device)
    path = _sheet_path(session.job, step)

    def draw(micro: int) -> None:
        sample_sheet(session.unet, vae, session.scheduler, session.data, micro, path)

    with session.learner.ema_weights():
        session.learner.adaptive_batch(draw)


def remove_sheets_after(job: Job, step: int) -> None:
    """Remove the sheets of later steps, left by an interrupted or longer training."""
    for path in (job.state / "samples").glob("step_*.png"):
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()


def write_results(session: Session) -> None:
    """Write the adapter (its EMA if there is one), the log and the sample sheets to ``job.out``."""
    job, last_step = session.job, session.job.training.max_train_steps
    if not _sheet_path(job, last_step).is_file():
        write_sample_sheet(session, last_step)
    with session.learner.ema_weights():
        save_adapter(session.unet, job.out / LORA_WEIGHTS, job.metadata)
    shutil.copyfile(job.state / "training_log.csv", job.out / "training_log.csv")
    shutil.rmtree(job.out / "samples", ignore_errors=True)
    shutil.copytree(job.state / "samples", job.out / "samples")


def _sheet_path(job: Job, step: int) -> Path:
    return job.state / "samples" / f"step_{step:06d}.png"
