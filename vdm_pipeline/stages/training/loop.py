"""The loop: from the newest good checkpoint to the last step, and the adapter's file."""

import importlib.util
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.disk import disk_faults
from vdm_pipeline.io.images import read_folder
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.models.diffusion import load_part
from vdm_pipeline.stages.runtime.device import pick_device, pick_dtype
from vdm_pipeline.stages.runtime.launcher import check_count
from vdm_pipeline.stages.training.adapter import add_lora, save_adapter
from vdm_pipeline.stages.training.checkpoints import Checkpoints, read_checkpoint
from vdm_pipeline.stages.training.encoding import Encoded, Encoder
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.learner import Learner
from vdm_pipeline.stages.training.mfu import peak_flops, peak_memory_mb, step_flops
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.randomness import StepRandomness, fixed_randomness, sample_step
from vdm_pipeline.stages.training.sample_sheet import sample_sheet
from vdm_pipeline.stages.training.training_log import TrainingLog

Log = Callable[[str], None]


def train(job: Job, log: Log = print) -> None:
    """Train and write the adapter, ``training_log.csv`` and ``samples/`` into ``job.out``.

    Goes on from the newest good checkpoint in ``job.state``, with the same bytes as without an interruption. Raises
    `PipelineError` when gradients stay broken, or memory or the disk do not suffice; the last good checkpoint stays.
    """
    from accelerate import Accelerator

    tracker = None if job.execution.tracker == "none" else job.execution.tracker
    if tracker and importlib.util.find_spec(tracker) is None:
        raise PipelineError(
            f"execution.tracker is '{tracker}', which is not installed; pip install {tracker}, or set \"none\"."
        )
    device = pick_device(job.execution.device)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",  # the base has its dtype already, and LoRA stays fp32
        log_with=tracker,
        project_dir=job.out,
    )
    check_count(job.execution.num_processes, accelerator.num_processes)
    accelerator.init_trackers("lora")
    with disk_faults(job.state):
        Session(job, accelerator, log if accelerator.is_main_process else _silent).run()
    accelerator.end_training()


class Session:
    """One call of `train` in one process."""

    def __init__(self, job: Job, accelerator: Any, log: Log) -> None:
        """Encode or read the data, load the UNet, attach the adapter."""
        self.job, self.accelerator, self.log = job, accelerator, log
        self.device, self.dtype = accelerator.device, pick_dtype(accelerator.device)
        training, execution = job.training, job.execution
        encoder = Encoder(job.base, job.cache, training.resolution, self.device, self.dtype)
        with accelerator.main_process_first():
            self.data = _encoded(encoder, job.subset, flip=training.random_flip, log=log)
            self.held_out = (
                _encoded(encoder, job.held_out, flip=False, log=log)
                if read_rows(job.held_out / "metadata.jsonl")
                else None
            )
        self.scheduler = load_part(job.base, "scheduler")
        self.unet = load_part(job.base, "unet", self.dtype).to(self.device, memory_format=torch.channels_last)
        if execution.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        parameters = add_lora(self.unet, training)
        self.unet.train()
        self.objective = Objective(self.scheduler, training, self.device)
        wrapped = accelerator.prepare(torch.compile(self.unet) if execution.compile else self.unet)
        share = -(-training.batch_size // accelerator.num_processes)
        micro = min(execution.micro_batch_size or share, share)
        self.learner = Learner(wrapped, parameters, self.objective, training, micro, accelerator, log)
        self.checkpoints, self.samples = Checkpoints(job.state, log), job.state / "samples"
        self.flops = step_flops(self.unet.config, training, self.data.latent, tuple(self.data.text.shape[1:]))
        self.peak = peak_flops(self.device, self.dtype) * accelerator.num_processes

    def run(self) -> None:
        """All steps from where the last run stopped."""
        training, execution = self.job.training, self.job.execution
        start = self._resume()
        training_log = TrainingLog(self.job.state / "training_log.csv", start)
        self.log(
            f"{self.flops / 1e9:.2f} GFLOP an image and step; the machine does {self.peak / 1e9:.0f} GFLOP a second"
        )
        window = _Window(start, self.device)
        for step in range(start, training.max_train_steps):
            drawn = sample_step(self.data.n, self.data.latent, training, self.objective.timesteps, step)
            window.add(*self.learner.step(step, self.data, self._share(drawn)))
            done = step + 1
            due = {
                name: done == training.max_train_steps or (every > 0 and done % every == 0)
                for name, every in execution.intervals().items()
            }
            if due["log"] or due["checkpoint"] or due["validate"]:
                self._report(training_log, done, window, validate=due["validate"])
                window = _Window(done, self.device)
            if due["sample"]:  # before the checkpoint: a run that is killed in between makes it again
                self._on_main(lambda: self._sheet(done))  # noqa: B023  (called at once)
                window.restart()
            if due["checkpoint"]:
                self._on_main(lambda: self.checkpoints.save(done, self.learner.state()))  # noqa: B023
                window.restart()
        if (
            training_log.last < start == training.max_train_steps
        ):  # nothing was left to do, and the log is lost
            self._report(training_log, start, window, validate=True)
        self._on_main(self._finish)

    def _resume(self) -> int:
        """Restore the newest checkpoint; its step, or 0."""
        from accelerate.utils import broadcast_object_list

        found = [
            self.checkpoints.newest(self.job.training.max_train_steps)
            if self.accelerator.is_main_process
            else None
        ]
        path = broadcast_object_list(found)[0]
        step = 0
        if path is not None:
            step, state = read_checkpoint(path)
            self.learner.restore(state)
            self.log(f"going on from step {step} of {self.job.training.max_train_steps}")
        self._on_main(lambda: self._forget_sheets_after(step))
        return step

    def _forget_sheets_after(self, step: int) -> None:
        for path in self.samples.glob("step_*.png"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()

    def _share(self, randomness: StepRandomness) -> StepRandomness:
        """This process's part of a step's images."""
        index, world, n = self.accelerator.process_index, self.accelerator.num_processes, len(randomness.rows)
        return randomness.part(index * n // world, (index + 1) * n // world)

    def _report(self, training_log: TrainingLog, done: int, window: "_Window", *, validate: bool) -> None:
        """One row of figures, and the end of a training whose gradients stay broken: the only wait for the GPU."""
        loss, norm = window.means(self.accelerator, self.job.training.batch_size)
        speed = window.speed(done) * self.job.training.batch_size
        bad = int(self.learner.worst_row)
        if bad > min(self.job.training.max_nonfinite_steps, self.job.training.max_train_steps - 1):
            raise PipelineError(
                f"The gradients of {bad} steps in a row up to step {done} are not finite; lower training.learning_rate "
                f"({self.job.training.learning_rate}). The last good checkpoint stands in {self.job.state}."
            )
        if self.accelerator.is_main_process:
            figures = {
                "loss": loss,
                "validation_loss": self._validation_loss(self.held_out)
                if validate and self.held_out
                else None,
                "lr": self.learner.optimizer.param_groups[0]["lr"],
                "grad_norm": norm,
                "images_per_s": speed,
                "mfu": speed * self.flops / self.peak,
                "peak_memory_mb": peak_memory_mb(self.device),
            }
            training_log.add(done, figures)
            self.accelerator.log(
                {name: value for name, value in figures.items() if value is not None}, step=done
            )
            skipped = (
                f", {int(self.learner.skipped)} steps skipped so far" if int(self.learner.skipped) else ""
            )
            shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
            self.log(f"step {done}/{self.job.training.max_train_steps}: {shown}{skipped}")

    @torch.no_grad()
    def _validation_loss(self, data: Encoded) -> float:
        """Mean loss over the held-out images at fixed noise and timesteps, of the adapter as it would be saved."""
        randomness = fixed_randomness(data.n, data.latent, self.objective.timesteps)

        def losses(micro: int) -> torch.Tensor:
            parts = [randomness.part(start, start + micro) for start in range(0, data.n, micro)]
            return torch.cat([self.objective.losses(self.unet, data, part) for part in parts])

        with self.learner.averaged():
            return float(self.learner.adaptive_batch(losses).mean())

    def _sheet(self, done: int) -> None:
        vae = load_part(self.job.base, "vae", self.dtype).to(self.device)
        path = self.samples / f"step_{done:06d}.png"
        with self.learner.averaged():
            self.learner.adaptive_batch(
                lambda micro: sample_sheet(self.unet, vae, self.scheduler, self.data, micro, path)
            )

    def _finish(self) -> None:
        """The adapter (its running mean where there is one), and the log and sheets beside it."""
        if not (self.samples / f"step_{self.job.training.max_train_steps:06d}.png").is_file():
            self._sheet(self.job.training.max_train_steps)
        with self.learner.averaged():
            save_adapter(self.unet, self.job.out / LORA_WEIGHTS, self.job.note)
        shutil.copyfile(self.job.state / "training_log.csv", self.job.out / "training_log.csv")
        shutil.rmtree(self.job.out / "samples", ignore_errors=True)
        shutil.copytree(self.samples, self.job.out / "samples")

    def _on_main(self, work: Callable[[], None]) -> None:
        """The first process works, the others wait."""
        if self.accelerator.is_main_process:
            work()
        self.accelerator.wait_for_everyone()


class _Window:
    """The steps since the last row of the log: sums that stay on the device, and the time that the steps took."""

    def __init__(self, start: int, device: torch.device) -> None:
        self.start = start
        self.loss, self.good, self.norm = (torch.zeros((), device=device) for _ in range(3))
        self.begun = time.perf_counter()

    def add(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        good = torch.isfinite(norm)
        self.loss = self.loss + torch.where(good, loss, 0.0)
        self.good, self.norm = self.good + good, norm

    def means(self, accelerator: Any, batch: int) -> tuple[float | None, float | None]:
        """Mean loss an image over the good steps of all processes, and the last gradient's norm; None where there is none."""
        loss, norm = float(accelerator.reduce(self.loss, "sum") / (self.good * batch)), float(self.norm)
        return loss if self.good else None, norm if self.good and math.isfinite(norm) else None

    def speed(self, done: int) -> float:
        """Steps a second."""
        return (done - self.start) / (time.perf_counter() - self.begun)

    def restart(self) -> None:
        """Do not count what was no training."""
        self.begun = time.perf_counter()


def _encoded(encoder: Encoder, folder: Path, *, flip: bool, log: Log) -> Encoded:
    rows = read_rows(folder / "metadata.jsonl", ("file_name", "text"))
    return encoder.encode(read_folder(folder, rows), [row["text"] for row in rows], flip=flip, log=log)


def _silent(line: str) -> None:
    """Only the first process speaks."""
