"""The training loop, from the newest intact checkpoint to the last step."""

import importlib.util

from vdm_pipeline.errors import PIP_INSTALL, PipelineError
from vdm_pipeline.io.disk import translate_disk_errors
from vdm_pipeline.io.progress import Log
from vdm_pipeline.stages.runtime.device import pick_device
from vdm_pipeline.stages.runtime.launcher import check_num_processes
from vdm_pipeline.stages.training.checkpoints import Checkpoints, read_checkpoint
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.log_window import LogWindow
from vdm_pipeline.stages.training.mfu import peak_memory_mb
from vdm_pipeline.stages.training.outputs import remove_sheets_after, write_results, write_sample_sheet
from vdm_pipeline.stages.training.randomness import sample_step
from vdm_pipeline.stages.training.session import Session, open_session
from vdm_pipeline.stages.training.training_log import TrainingLog
from vdm_pipeline.stages.training.validation import validate, validate_again


def train(job: Job, log: Log = print) -> None:
    """Train, and write the adapter, ``training_log.csv`` and ``samples/`` into ``job.out``.

    Resumes from the newest intact checkpoint in ``job.state``; the result has the same bytes as without an
    interruption. Raises `PipelineError` if gradients stay non-finite, or if memory or disk space run out;
    the last good checkpoint is kept.
    """
    from accelerate import Accelerator

    tracker = None if job.execution.tracker == "none" else job.execution.tracker
    if tracker and importlib.util.find_spec(tracker) is None:
        raise PipelineError(
            f"execution.tracker is '{tracker}', which is not installed; "
            f'set "none", or run: {PIP_INSTALL} {tracker}'
        )
    accelerator = Accelerator(
        cpu=pick_device(job.execution.device).type == "cpu",
        mixed_precision="no",  # the base has its dtype already, and LoRA stays fp32
        log_with=tracker,
        project_dir=job.out,
    )
    check_num_processes(job.execution.num_processes, accelerator.num_processes)
    accelerator.init_trackers("lora")
    with translate_disk_errors(job.state):
        run_steps(open_session(job, accelerator, log if accelerator.is_main_process else _discard))
    accelerator.end_training()


def run_steps(session: Session) -> None:
    """Run the steps that are left, then write the results."""
    job, accelerator, learner, data = session.job, session.accelerator, session.learner, session.data
    training, execution = job.training, job.execution
    checkpoints = Checkpoints(job.state, session.log)
    start = resume(session, checkpoints)
    training_log = open_log(session, start)
    _log_flops(session)
    window = LogWindow(start, session.device)
    for index in range(start, training.max_train_steps):
        randomness = sample_step(
            data.n, data.latent_shape, training, session.objective.num_train_timesteps, index
        ).share(accelerator.process_index, accelerator.num_processes)
        loss, grad_norm = learner.step(index, data, randomness)
        window.add(loss, grad_norm)

        step = index + 1  # ``index`` counts from 0; ``step`` is how many are done, as in logs and file names
        is_last = step == training.max_train_steps
        validated = is_last or _is_multiple(step, execution.validate_every)
        checkpoint = is_last or step % execution.checkpoint_every == 0
        if step % execution.log_every == 0 or validated or checkpoint:
            log_row(session, training_log, window, step, validated=validated)
            window = LogWindow(step, session.device)
        if is_last or _is_multiple(step, execution.sample_every):
            # before the checkpoint, so that a run killed in between draws the sheet again
            if accelerator.is_main_process:
                write_sample_sheet(session, step)
            accelerator.wait_for_everyone()
            window.restart_clock(step)
        if checkpoint:
            if accelerator.is_main_process:
                checkpoints.save(step, learner.state_dict())
            accelerator.wait_for_everyone()
            window.restart_clock(step)
    if start == training.max_train_steps and training_log.last_step < start:
        # an earlier run did all steps, but their log is lost
        log_row(session, training_log, window, start, validated=True)
    if accelerator.is_main_process:
        write_results(session)
    accelerator.wait_for_everyone()


def resume(session: Session, checkpoints: Checkpoints) -> int:
    """Restore the newest checkpoint and return its step, or 0 without one."""
    from accelerate.utils import broadcast_object_list

    accelerator, max_train_steps = session.accelerator, session.job.training.max_train_steps
    newest = checkpoints.newest(max_train_steps) if accelerator.is_main_process else None
    path = broadcast_object_list([newest])[0]
    step = 0
    if path is not None:
        step, state = read_checkpoint(path)
        session.learner.load_state_dict(state)
        session.log(f"resuming from step {step}/{max_train_steps}")
    if accelerator.is_main_process:
        remove_sheets_after(session.job, step)
    accelerator.wait_for_everyone()
    return step


def open_log(session: Session, start: int) -> TrainingLog:
    """The log up to step ``start``, with validation losses of the current held-out images."""
    training_log = TrainingLog(session.job.state / "training_log.csv", start)
    if session.accelerator.is_main_process:
        validate_again(session, training_log)
    session.accelerator.wait_for_everyone()
    return training_log


def log_row(
    session: Session, training_log: TrainingLog, window: LogWindow, step: int, *, validated: bool
) -> None:
    """Log the steps of ``window``: the only wait for the GPU besides sample sheets and checkpoints.

    ``mfu``, the model FLOPs utilization, is relative to the FLOP/s of a large matmul on this machine.
    """
    training, accelerator, learner = session.job.training, session.accelerator, session.learner
    loss, grad_norm = window.means(accelerator, training.batch_size)
    images_per_s = window.steps_per_s(step) * training.batch_size
    check_gradients(session, step)
    if not accelerator.is_main_process:
        return
    row = {
        "loss": loss,
        "validation_loss": validate(session, step) if validated else None,
        "lr": learner.optimizer.param_groups[0]["lr"],
        "grad_norm": grad_norm,
        "images_per_s": images_per_s,
        "mfu": images_per_s * session.step_flops / session.peak_flops,
        "peak_memory_mb": peak_memory_mb(session.device),
    }
    values = {name: value for name, value in row.items() if value is not None}
    training_log.add(step, values)
    accelerator.log(values, step=step)
    line = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    skipped = int(learner.skipped_steps)
    if skipped:
        line += f", {skipped} steps skipped so far"
    session.log(f"step {step}/{training.max_train_steps}: {line}")


def check_gradients(session: Session, step: int) -> None:
    """Raise `PipelineError` if more steps in a row than allowed, or all steps, had non-finite gradients."""
    training, job = session.job.training, session.job
    nonfinite = int(session.learner.most_nonfinite_in_a_row)
    if nonfinite > min(training.max_nonfinite_steps, training.max_train_steps - 1):
        raise PipelineError(
            f"Gradients were non-finite in {nonfinite} steps in a row up to step {step} "
            f"(the last good checkpoint is in {job.state}); "
            f"lower training.learning_rate, now {training.learning_rate}."
        )


def _log_flops(session: Session) -> None:
    """Log the figures that MFU is computed from."""
    session.log(
        f"{session.step_flops / 1e9:.2f} GFLOP per image and step; MFU is relative to the "
        f"{session.peak_flops / 1e9:.0f} GFLOP/s of a large matmul on this machine"
    )


def _is_multiple(step: int, every: int) -> bool:
    """Whether ``step`` is a multiple of ``every``, where 0 means never."""
    return every > 0 and step % every == 0


def _discard(line: str) -> None:
    """Drop a log line: only the main process logs."""
