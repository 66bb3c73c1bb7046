"""Training state on disk: step, weights and optimizer state in one safetensors file, written atomically.

The file's name ends in the sha256 of its content, so a truncated or modified checkpoint is skipped.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_leftovers, sync
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tensors import write_tensors

NEW = "new.safetensors"
"""A checkpoint before its hash is part of its name."""
KEEP_LAST = 2
"""Checkpoints to keep; if the newest turns out to be damaged, the one before it is used."""


class Checkpoints:
    """The checkpoints of one training, in a folder of their own."""

    def __init__(self, folder: Path, log: Log) -> None:
        """Create the folder, and remove partly written files of killed processes."""
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        (folder / NEW).unlink(missing_ok=True)
        self.folder, self.log = folder, log

    def save(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the state after ``step`` steps, then remove all but the newest two up to ``step``.

        Checkpoints of later steps are removed too: they are damaged or of a longer training, and would
        displace this one. Raises `PipelineError` if the file cannot be written; earlier checkpoints then
        stay as they are.
        """
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        new = self.folder / NEW
        try:
            write_tensors(new, tensors, {"step": str(step)})
        except OSError as error:
            raise PipelineError(
                f"The checkpoint of step {step} cannot be written to {self.folder} ({error}); "
                "free disk space, and the next run resumes from the previous checkpoint."
            ) from None
        new.rename(self.folder / f"step_{step:08d}.{file_sha256(new)}.safetensors")
        sync(self.folder)
        files = self._files()
        keep = [path for path in files if _step_of(path) <= step][-KEEP_LAST:]
        for path in set(files) - set(keep):
            path.unlink()

    def newest(self, max_step: int) -> Path | None:
        """The newest intact checkpoint of at most ``max_step`` steps, or None."""
        for path in reversed(self._files()):
            if _step_of(path) > max_step:
                continue
            if path.name.split(".")[1] == file_sha256(path):
                return path
            self.log(f"skipping damaged checkpoint {path.name}")
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"))


def is_finished(folder: Path, max_train_steps: int) -> bool:
    """Whether the training in ``folder`` reached its last step."""
    return any(folder.glob(f"step_{max_train_steps:08d}.*"))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_").split(".")[0])


def read_checkpoint(path: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """The step and the tensors of a checkpoint, on the CPU."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return int(file.metadata()["step"]), tensors


def state_tensors(
    weights: Mapping[str, torch.Tensor], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    """Weights and optimizer states as one dictionary of tensors."""
    tensors = {f"weight/{name}": value for name, value in weights.items()}
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value)
    return tensors


@torch.no_grad()
def restore_state(
    tensors: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Copy the tensors of `state_tensors` back in place.

    Raises ``KeyError`` if a weight is missing, ``RuntimeError`` if a shape differs.
    """
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
