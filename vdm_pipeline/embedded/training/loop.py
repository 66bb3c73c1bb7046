"""One training loop for all embedded models: progress, checkpoints, going on after a kill."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from vdm_pipeline.stages.training.checkpoints import Checkpoints, read_checkpoint, restore_state, state_tensors


def train(
    step: Callable[[int], dict[str, float]],
    *,
    steps: int,
    modules: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    checkpoint: Path,
    every: int = 250,
) -> None:
    """Call ``step(0) … step(steps - 1)``; a re-run goes on from the newest good checkpoint in the folder ``checkpoint``."""
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
    begun = time.perf_counter()
    for index in range(start, steps):
        losses = step(index)
        if (index + 1) % 50 == 0 or index + 1 == steps:
            rate = (index + 1 - start) / (time.perf_counter() - begun)
            values = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"{checkpoint.stem} {index + 1}/{steps} {rate:.2f} steps/s {values}", flush=True)
        if (index + 1) % every == 0 or index + 1 == steps:
            checkpoints.save(index + 1, state_tensors(weights, optimizers))


def cosine(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """Learning rate: linear warm-up, then a half cosine down to 2 % of ``peak``."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    share = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.02 + 0.49 * (1 + float(torch.cos(torch.tensor(torch.pi * share)))))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
