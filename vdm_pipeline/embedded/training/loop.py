"""One training loop for all embedded models, with progress lines and checkpoints to resume from."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from vdm_pipeline.stages.training.checkpoints import (
    Checkpoints,
    read_checkpoint,
    restore_state,
    state_tensors,
)


def train(
    step: Callable[[int], dict[str, float]],
    *,
    steps: int,
    modules: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    checkpoint: Path,
    every: int = 250,
) -> None:
    """Call ``step(0)`` to ``step(steps - 1)``, from the newest intact checkpoint in ``checkpoint`` on."""
    weights = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    checkpoints, start = Checkpoints(checkpoint, print), 0
    newest = checkpoints.newest(steps)
    if newest:
        start, state = read_checkpoint(newest)
        restore_state(state, weights, optimizers)
    started_at = time.perf_counter()
    for index in range(start, steps):
        losses = step(index)
        if (index + 1) % 50 == 0 or index + 1 == steps:
            rate = (index + 1 - start) / (time.perf_counter() - started_at)
            values = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"{checkpoint.stem} {index + 1}/{steps} {rate:.2f} steps/s {values}", flush=True)
        if (index + 1) % every == 0 or index + 1 == steps:
            checkpoints.save(index + 1, state_tensors(weights, optimizers))


def cosine(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate: linear warm-up, then a half cosine down to 2 % of ``peak``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.49 * (1 + float(torch.cos(torch.tensor(torch.pi * progress)))))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor, parameters: Iterable[torch.Tensor]) -> None:
    """One optimizer step, with the gradients of ``parameters`` clipped to norm 1."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
