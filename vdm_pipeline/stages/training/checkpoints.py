"""Training state on disk: step, weights and optimizer state in safetensors, written atomically.

A checkpoint is one file, or a folder of files of limited size. Its name has the sha256 of its content, so a
truncated or modified checkpoint is skipped.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_file_or_folder, remove_leftovers, sync
from vdm_pipeline.io.hashing import file_sha256, folder_digest
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tensors import write_tensors

NEW = "new.safetensors"
"""A checkpoint before its hash is part of its name."""
NEW_FOLDER = "new"
"""The same for a folder."""
MAX_HEADER_BYTES = 2**19
"""Space for the names of the tensors: at about 150 bytes each, those of 3,000."""
KEEP_LAST = 2
"""Checkpoints to keep; if the newest turns out to be damaged, the one before it is used."""


class Checkpoints:
    """The checkpoints of one training, in a folder of their own."""

    def __init__(self, folder: Path, log: Log, max_file_bytes: int | None = None) -> None:
        """Create the folder, and remove partly written files of killed processes.

        With ``max_file_bytes`` each checkpoint is a folder of files of at most this size; a single larger
        tensor would have a file of its own.
        """
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        for name in (NEW, NEW_FOLDER):
            if (folder / name).exists():
                remove_file_or_folder(folder / name)
        self.folder, self.log, self.max_file_bytes = folder, log, max_file_bytes

    def save(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the state after ``step`` steps, then remove all but the newest two up to ``step``.

        Checkpoints of later steps are removed too: they are damaged or of a longer training, and would
        displace this one. Raises `PipelineError` if the file cannot be written; earlier checkpoints then
        stay as they are.
        """
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        try:
            new = self._write(tensors, {"step": str(step)})
        except OSError as error:
            raise PipelineError(
                f"The checkpoint of step {step} cannot be written to {self.folder} ({error}); "
                "free disk space, and the next run resumes from the previous checkpoint."
            ) from None
        new.rename(self.folder / f"step_{step:08d}.{_sha256(new)}{new.suffix}")
        sync(self.folder)
        files = self._files()
        keep = [path for path in files if _step_of(path) <= step][-KEEP_LAST:]
        for path in set(files) - set(keep):
            remove_file_or_folder(path)

    def newest(self, max_step: int) -> Path | None:
        """The newest intact checkpoint of at most ``max_step`` steps, or None."""
        for path in reversed(self._files()):
            if _step_of(path) > max_step:
                continue
            if path.name.split(".")[1] == _sha256(path):
                return path
            self.log(f"skipping damaged checkpoint {path.name}")
        return None

    def _write(self, tensors: Mapping[str, torch.Tensor], texts: Mapping[str, str]) -> Path:
        """Write the new file, or the files of the new folder; return its path."""
        if self.max_file_bytes is None:
            write_tensors(self.folder / NEW, tensors, texts)
            return self.folder / NEW
        from huggingface_hub import split_torch_state_dict_into_shards

        shards = split_torch_state_dict_into_shards(
            dict(sorted(tensors.items())),  # their order, which a resumed training changes, decides the files
            filename_pattern="part{suffix}.safetensors",
            max_shard_size=self.max_file_bytes - MAX_HEADER_BYTES,
        )
        for name, keys in shards.filename_to_tensors.items():
            write_tensors(self.folder / NEW_FOLDER / name, {key: tensors[key] for key in keys}, texts)
        return self.folder / NEW_FOLDER

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step_*"))


def is_finished(folder: Path, max_train_steps: int) -> bool:
    """Whether the training in ``folder`` reached its last step."""
    return any(folder.glob(f"step_{max_train_steps:08d}.*"))


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_").split(".")[0])


def _sha256(path: Path) -> str:
    return folder_digest(path) if path.is_dir() else file_sha256(path)


def read_checkpoint(path: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """The step and the tensors of a checkpoint, on the CPU."""
    tensors: dict[str, torch.Tensor] = {}
    for part in path.iterdir() if path.is_dir() else [path]:
        with safe_open(part, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step = int(file.metadata()["step"])
    return step, tensors


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
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, part = key.removeprefix(prefix).split("/")
                state.setdefault(int(index), {})[part] = _with_layout_of(parameters[int(index)], value)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _with_layout_of(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """``value`` with the strides of its parameter, as fused AdamW walks through the memory of both."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
