"""The loop: from the newest good checkpoint to the last step, and the adapter's file."""

import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import read_folder
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.device import pick_device, pick_dtype
from vdm_pipeline.stages.diffusion import load_part
from vdm_pipeline.stages.training.adapter import WEIGHTS, add_lora, save_adapter
from vdm_pipeline.stages.training.checkpoints import Checkpoints, read_checkpoint
from vdm_pipeline.stages.training.cost import flops_of, peak_flops, peak_memory_mb
from vdm_pipeline.stages.training.draws import Draws, draw, fixed_draws
from vdm_pipeline.stages.training.examples import Encoded, Encoder
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.learner import Learner
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.records import Records
from vdm_pipeline.stages.training.samples import sample_sheet

Log = Callable[[str], None]


def train(job: Job, log: Log = print) -> None:
    """Train and write the adapter, ``training_log.csv`` and ``samples/`` into ``job.out``.

    Goes on from the newest good checkpoint in ``job.state``, with the same bytes as without an interruption. Raises
    `PipelineError` when gradients stay broken, or memory or the disk do not suffice; the last good checkpoint stays.
    """
    from accelerate import Accelerator

    tracker = None if job.execution.tracker == "none" else job.execution.tracker
    if tracker and importlib.util.find_spec(tracker) is None:
        raise PipelineError(f"execution.tracker is '{tracker}', which is not installed; pip install {tracker}, or set \"none\".")
    device = pick_device(job.execution.device)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",  # the base has its dtype already, and LoRA stays fp32
        log_with=tracker,
        project_dir=job.out,
    )
    if accelerator.num_processes != job.execution.processes:
        raise PipelineError(
            f"execution.processes is {job.execution.processes}, but {accelerator.num_processes} were started; "
            "set execution.processes = 1, or as many as accelerate can start here."
        )
    accelerator.init_trackers("lora")
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
            self.data = _encoded(encoder, job.subset, flip=training.flip, log=log)
            self.held_out = _encoded(encoder, job.held_out, flip=False, log=log) if read_rows(job.held_out / "metadata.jsonl") else None
        self.scheduler = load_part(job.base, "scheduler")
        self.unet = load_part(job.base, "unet", self.dtype).to(self.device, memory_format=torch.channels_last)
        if execution.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        parameters = add_lora(self.unet, training)
        self.unet.train()
        self.objective = Objective(self.scheduler, training, self.device)
        wrapped = accelerator.prepare(torch.compile(self.unet) if execution.compile else self.unet)
        share = -(-training.batch // accelerator.num_processes)
        micro = min(execution.micro_batch or share, share)
        self.learner = Learner(wrapped, parameters, self.objective, training, micro, accelerator, log)
        self.checkpoints = Checkpoints(job.state, log)

    def run(self) -> None:
        """All steps from where the last run stopped."""
        training, execution = self.job.training, self.job.execution
        start = self._resume()
        records = Records(self.job.state / "training_log.csv", start)
        flops, peak = self._flops_an_image(), peak_flops(self.device, self.dtype) * self.accelerator.num_processes
        self.log(f"{flops / 1e9:.2f} GFLOP an image and step; the machine does {peak / 1e9:.0f} GFLOP a second")
        window = _Window(start, self.device)
        for step in range(start, training.steps):
            drawn = draw(self.data.n, self.data.latent, training, self.objective.timesteps, step)
            window.add(*self.learner.step(step, self.data, self._share(drawn)))
            done = step + 1
            due = {name: done == training.steps or (every > 0 and done % every == 0) for name, every in execution.intervals().items()}
            if due["log"] or due["checkpoint"] or due["validate"]:
                speed = training.batch * window.steps(done) / window.seconds()
                self._report(records, done, window, speed, speed * flops / peak, validate=due["validate"])
                window = _Window(done, self.device)
            if due["checkpoint"]:
                self._on_main(lambda: self.checkpoints.save(done, self.learner.state()))  # noqa: B023  (called at once)
                window.restart()
            if due["sample"]:
                self._on_main(lambda: self._sheet(done))  # noqa: B023
                window.restart()
        self._on_main(self._finish)

    def _resume(self) -> int:
        """Restore the newest checkpoint; its step, or 0."""
        from accelerate.utils import broadcast_object_list

        found = [self.checkpoints.newest(self.job.training.steps) if self.accelerator.is_main_process else None]
        path = broadcast_object_list(found)[0]
        if path is None:
            return 0
        step, state = read_checkpoint(path)
        self.learner.restore(state)
        self.log(f"going on from step {step} of {self.job.training.steps}")
        return step

    def _share(self, draws: Draws) -> Draws:
        """This process's part of a step's images."""
        index, world, n = self.accelerator.process_index, self.accelerator.num_processes, len(draws.rows)
        return draws.part(index * n // world, (index + 1) * n // world)

    def _flops_an_image(self) -> float:
        """Of forward and backward, counted on one image; the gradients are thrown away."""
        one = fixed_draws(1, self.data.latent, self.objective.timesteps)
        flops = flops_of(lambda: self.objective.losses(self.unet, self.data, one).sum())
        self.learner.optimizer.zero_grad(set_to_none=True)
        return flops

    def _report(self, records: Records, done: int, window: "_Window", speed: float, share: float, *, validate: bool) -> None:
        """One row of figures, and the end of a training whose gradients stay broken: the only wait for the GPU."""
        loss, norm = window.means(self.accelerator, self.job.training.batch)
        bad, allowed = int(self.learner.bad_in_a_row), self.job.training.bad_steps
        if bad > allowed:
            raise PipelineError(
                f"The gradients of {bad} steps in a row up to step {done} are not finite; lower training.learning_rate "
                f"({self.job.training.learning_rate}). The last good checkpoint stands in {self.job.state}."
            )
        if self.accelerator.is_main_process:
            figures = {
                "loss": loss,
                "validation_loss": self._validation_loss(self.held_out) if validate and self.held_out else None,
                "lr": self.learner.optimizer.param_groups[0]["lr"],
                "grad_norm": norm,
                "images_per_s": speed,
                "share_of_peak": share,
                "peak_memory_mb": peak_memory_mb(self.device),
            }
            records.add(done, figures)
            self.accelerator.log({name: value for name, value in figures.items() if value is not None}, step=done)
            skipped = f", {int(self.learner.skipped)} steps skipped so far" if int(self.learner.skipped) else ""
            shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
            self.log(f"step {done}/{self.job.training.steps}: {shown}{skipped}")

    @torch.no_grad()
    def _validation_loss(self, data: Encoded) -> float:
        """Mean loss over the held-out images at fixed noise and timesteps."""
        draws = fixed_draws(data.n, data.latent, self.objective.timesteps)
        parts = range(0, data.n, self.learner.micro)
        losses = [self.objective.losses(self.unet, data, draws.part(i, i + self.learner.micro)) for i in parts]
        return float(torch.cat(losses).mean())

    def _sheet(self, done: int) -> None:
        vae = load_part(self.job.base, "vae", self.dtype).to(self.device)
        sample_sheet(self.unet, vae, self.scheduler, self.data, self.job.state / f"samples/step_{done:06d}.png")

    def _finish(self) -> None:
        """The adapter (its running mean where there is one), and the log and sheets beside it."""
        for name, value in self.learner.mean.items():
            self.learner.parameters[name].data.copy_(value)
        save_adapter(self.unet, self.job.out / WEIGHTS, self.job.note)
        shutil.copyfile(self.job.state / "training_log.csv", self.job.out / "training_log.csv")
        if (self.job.state / "samples").is_dir():
            shutil.copytree(self.job.state / "samples", self.job.out / "samples", dirs_exist_ok=True)

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

    def means(self, accelerator: Any, batch: int) -> tuple[float, float]:
        """Mean loss an image over the good steps of all processes, and the last gradient's norm."""
        return float(accelerator.reduce(self.loss, "sum") / (self.good.clamp(min=1) * batch)), float(self.norm)

    def steps(self, done: int) -> int:
        return done - self.start

    def seconds(self) -> float:
        return time.perf_counter() - self.begun

    def restart(self) -> None:
        """Do not count what was no training."""
        self.begun = time.perf_counter()


def _encoded(encoder: Encoder, folder: Path, *, flip: bool, log: Log) -> Encoded:
    rows = read_rows(folder / "metadata.jsonl")
    return encoder.encode(read_folder(folder, rows), [row["text"] for row in rows], flip=flip, log=log)


def _silent(line: str) -> None:
    """Only the first process speaks."""
