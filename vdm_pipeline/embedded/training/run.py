"""One run of the training script: its folder, device, precision and length, which all stages share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from vdm_pipeline.embedded.training.films import Films, open_films
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import try_write, write_text
from vdm_pipeline.io.lock import locked
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tables import read_json
from vdm_pipeline.stages.data.phantom.series import RENDERER
from vdm_pipeline.stages.runtime.device import pick_device, pick_dtype
from vdm_pipeline.stages.training.checkpoints import is_finished


@dataclass(frozen=True)
class Run:
    """What all stages share."""

    work: Path
    device: torch.device
    dtype: torch.dtype
    """Of the forward pass. Weights, gradients and optimizer states are fp32."""
    scale: float
    """Factor of the steps and of the films; 1 trains the packaged models."""
    checkpoint_s: float
    films: Films
    log: Log

    def scaled(self, count: int) -> int:
        """``count`` steps or films, scaled; at least one."""
        return max(1, round(count * self.scale))

    def autocast(self) -> torch.autocast:
        """Context of a model's forward pass; it does nothing in fp32. Losses belong outside, in fp32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def generator(self, seed: int) -> torch.Generator:
        """A generator on the device, so that no random number is copied to it."""
        return torch.Generator(self.device).manual_seed(seed)

    def is_finished(self, stage: str, steps: int) -> bool:
        """Whether the stage of ``steps`` steps, before scaling, reached its last one."""
        return is_finished(self.work / stage, self.scaled(steps))


def training_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a GPU that has it, else fp32: fp16 would need a scaled loss."""
    dtype = pick_dtype(device)
    return torch.float32 if dtype == torch.float16 else dtype


@contextmanager
def open_run(
    work: Path, device: str, dtype: torch.dtype | None, scale: float, checkpoint_s: float, log: Log
) -> Iterator[Run]:
    """Lock the work folder, and start the workers that render films.

    Raises `PipelineError` if the folder cannot be written to, or holds a training of another length.
    """
    chosen = pick_device(device, "--device")
    check_writable(work)
    with locked(work / ".lock", {}, lambda _: log(f"waiting for another run in {work}")):
        _check_same_training(work, scale)
        if chosen.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 where bf16 is not used
            torch.backends.cudnn.benchmark = True
        with open_films(work / f"films_{RENDERER}") as films:
            yield Run(work, chosen, dtype or training_dtype(chosen), scale, checkpoint_s, films, log)


def check_writable(folder: Path) -> None:
    """Create the folder; raise `PipelineError` if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try_write(folder)
    except OSError as error:
        raise PipelineError(
            f"{folder} cannot be written to ({error.strerror}); name another folder."
        ) from None


def _check_same_training(work: Path, scale: float) -> None:
    """Raise `PipelineError` if the checkpoints in ``work`` are of another scale or of other phantoms."""
    path, this = work / "run.json", {"scale": scale, "phantom renderer": RENDERER}
    before = read_json(path) if path.exists() and any(work.glob("*/step_*")) else this
    if before != this:
        raise PipelineError(
            f"{work} holds a training with {_words(before)}, not {_words(this)}; name another work folder."
        )
    write_text(path, json.dumps(this) + "\n")


def _words(values: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in values.items())
