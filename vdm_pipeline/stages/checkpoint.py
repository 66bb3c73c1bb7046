"""Training state in one safetensors file: step, weights and AdamW moments; read without pickle, written atomically."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from vdm_pipeline.io.tensors import write_tensors


def save_checkpoint(
    path: Path,
    *,
    step: int,
    weights: Mapping[str, torch.Tensor],
    optimizers: Mapping[str, torch.optim.Optimizer],
    note: Mapping[str, str] | None = None,
) -> None:
    """Write ``weights`` and the state of ``optimizers`` after ``step`` steps, with free text in ``note``."""
    tensors = {f"weight/{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value).cpu().contiguous().clone()
    write_tensors(path, tensors, {**(note or {}), "step": str(step)})


def checkpoint_note(path: Path) -> dict[str, str]:
    """The free text that the checkpoint was saved with, and ``step``."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def load_checkpoint(path: Path, *, weights: Mapping[str, torch.Tensor], optimizers: Mapping[str, torch.optim.Optimizer]) -> int:
    """Copy a checkpoint into ``weights`` and ``optimizers`` in place; return its step.

    Raises ``KeyError`` if a weight is missing and ``RuntimeError`` if a shape differs.
    """
    with safe_open(path, "pt") as file:
        missing = {f"weight/{name}" for name in weights} - set(file.keys())
        if missing:
            raise KeyError(f"{path} lacks {min(missing)}")
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(file.get_tensor(f"weight/{name}"))
        for name, optimizer in optimizers.items():
            _load_optimizer(file, f"optimizer/{name}/", optimizer)
        return int(file.metadata()["step"])


def _load_optimizer(file: safe_open, prefix: str, optimizer: torch.optim.Optimizer) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key in file.keys():  # noqa: SIM118  (a safe_open handle is no mapping)
        if key.startswith(prefix):
            index, name = key.removeprefix(prefix).split("/")
            state.setdefault(int(index), {})[name] = file.get_tensor(key)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
