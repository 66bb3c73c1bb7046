"""One training loop for all embedded models, with progress lines and checkpoints to resume from."""

import math
import time
from collections.abc import Callable, Iterable, Mapping

import torch

from vdm_pipeline.embedded.training.run import Run
from vdm_pipeline.io.progress import Throttle
from vdm_pipeline.stages.training.checkpoints import (
    Checkpoints,
    read_checkpoint,
    restore_state,
    state_tensors,
)

MAX_FILE_BYTES = 16 * 2**20
"""Of a checkpoint, so that it can be copied from a machine that returns only small files."""


def train(
    step: Callable[[int], dict[str, torch.Tensor]],
    *,
    run: Run,
    stage: str,
    steps: int,
    modules: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    """Call ``step(0)`` to ``step(steps - 1)``, from the newest intact checkpoint of the stage on.

    ``step`` returns losses on the device, which are read only for a progress line: reading waits for a GPU.
    """
    weights = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    checkpoints, start = Checkpoints(run.work / stage, run.log, MAX_FILE_BYTES), 0
    newest = checkpoints.newest(steps)
    if newest:
        start, state = read_checkpoint(newest)
        restore_state(state, weights, optimizers)
        run.log(f"{stage}: {start} of {steps} steps are done")
    progress, saving = Throttle(), Throttle(run.checkpoint_s)
    started_at = time.perf_counter()
    for index in range(start, steps):
        losses = step(index)
        is_last = index + 1 == steps
        if progress.due(done=is_last):
            values = " ".join(f"{name} {float(value):.4f}" for name, value in losses.items())
            rate = (index + 1 - start) / (time.perf_counter() - started_at)
            run.log(f"{stage} {index + 1}/{steps} {rate:.2f} steps/s {values}")
        if saving.due(done=is_last):
            checkpoints.save(index + 1, state_tensors(weights, optimizers))


def adamw(
    parameters: Iterable[torch.Tensor], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """AdamW in one kernel."""
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def cosine(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate: linear warm-up, then a half cosine down to 2 % of ``peak``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))


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
