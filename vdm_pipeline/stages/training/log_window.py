"""Means over the steps between two rows of the training log."""

import math
import time
from typing import Any

import torch


class LogWindow:
    """Loss and time since the last row of the log; the loss stays on the device until `means` reads it."""

    def __init__(self, start: int, device: torch.device) -> None:
        """Start after ``start`` steps."""
        self.start = start
        self.loss, self.finite_steps, self.grad_norm = (torch.zeros((), device=device) for _ in range(3))
        self.started_at = time.perf_counter()

    def add(self, loss: torch.Tensor, grad_norm: torch.Tensor) -> None:
        """Add a step; the loss of a step with a non-finite gradient does not count."""
        finite = torch.isfinite(grad_norm)
        self.loss = self.loss + torch.where(finite, loss, 0.0)
        self.finite_steps, self.grad_norm = self.finite_steps + finite, grad_norm

    def means(self, accelerator: Any, batch_size: int) -> tuple[float | None, float | None]:
        """Mean loss per image over all processes, and the last gradient norm; waits for the GPU.

        Either is None without a finite value.
        """
        loss = float(accelerator.reduce(self.loss, "sum") / (self.finite_steps * batch_size))
        grad_norm = float(self.grad_norm)
        if not self.finite_steps:
            return None, None
        return loss, grad_norm if math.isfinite(grad_norm) else None

    def steps_per_s(self, step: int) -> float:
        """Steps per second since the clock started, if ``step`` steps are done by now."""
        return (step - self.start) / (time.perf_counter() - self.started_at)

    def restart_clock(self, step: int) -> None:
        """Measure the speed from ``step`` on, after a pause for a checkpoint or samples."""
        self.start, self.started_at = step, time.perf_counter()
