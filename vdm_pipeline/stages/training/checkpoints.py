"""Training state on disk: step, weights, moments, in one safetensors file that is whole or is not there.

The file's name ends in the sha256 of its content: what was cut short, or changed since, is known by that and passed over.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_leftovers, sync
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.tensors import write_tensors

KEPT = 2
"""Checkpoints on disk: when one turns out to be damaged, there is the one before."""


class Checkpoints:
    """The checkpoints of one training, in a folder of their own."""

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        """Make the folder and clear what killed writers left in it."""
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        self.folder, self.log = folder, log

    def save(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the state after ``step`` steps, then drop all but the newest two that do not lie past it.

        What lies past it is damaged, or of a training that went on for longer, and would push out what is still needed.
        Raises `PipelineError` if the disk is full; the checkpoints that stand are not touched then.
        """
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        fresh = self.folder / "new.safetensors"
        try:
            write_tensors(fresh, plain, {"step": str(step)})
        except OSError as error:
            raise PipelineError(
                f"The checkpoint of step {step} cannot be written to {self.folder} ({error}); make room, and the next run goes on "
                "from the last one that was written."
            ) from None
        fresh.rename(self.folder / f"step_{step:08d}.{file_sha256(fresh)}.safetensors")
        sync(self.folder)
        files = self._files()
        kept = [path for path in files if _step_of(path) <= step][-KEPT:]
        for other in set(files) - set(kept):
            other.unlink()

    def newest(self, at_most: int) -> Path | None:
        """The newest checkpoint of at most this step whose content is the one that was written; None where there is none."""
        for path in reversed(self._files()):
            if _step_of(path) > at_most:
                continue
            if path.name.split(".")[1] == file_sha256(path):
                return path
            self.log(f"{path.name} is damaged and is passed over")
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"))


def finished(folder: Path, steps: int) -> bool:
    """Whether a training in this folder came to its last step."""
    return any(folder.glob(f"step_{steps:08d}.*"))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_").split(".")[0])


def read_checkpoint(path: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """The step and the tensors of a checkpoint, on the CPU."""
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def gather(
    weights: Mapping[str, torch.Tensor], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    """Weights, and moments and step counts of optimizers, under names of their own."""
    tensors = {f"weight/{name}": value for name, value in weights.items()}
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer/{name}/{index}/{key}": torch.as_tensor(value) for key, value in state.items()
            }
    return tensors


@torch.no_grad()
def scatter(
    tensors: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Copy back, in place, what `gather` gave. Raises ``KeyError`` if a weight is missing, ``RuntimeError`` if a shape differs."""
    for name, value in weights.items():
        value.copy_(tensors[f"weight/{name}"])
    for name, optimizer in optimizers.items():
        prefix = f"optimizer/{name}/"
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, part = key.removeprefix(prefix).split("/")
                state.setdefault(int(index), {})[part] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
