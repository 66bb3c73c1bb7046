"""One optimizer step: micro-batches, gradient clipping, and no update from non-finite gradients."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import Training
from vdm_pipeline.stages.runtime.batch_size import AdaptiveBatchSize
from vdm_pipeline.stages.training.checkpoints import restore_state, state_tensors
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.lr_schedule import learning_rate
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.randomness import StepRandomness

HINT = (
    "set a smaller execution.micro_batch_size, execution.gradient_checkpointing = true, "
    "or a smaller training.resolution"
)
FP16_SCALE = 2.0**12
"""Loss scale for fp16 layers, so that small gradients do not underflow."""


class Learner:
    """A UNet with its adapter, AdamW for the adapter's weights only, and optionally the adapter's EMA.

    No step waits for the GPU: gradient norm, clipping and the test for non-finite values stay on the device.
    """

    def __init__(
        self,
        unet: Any,
        parameters: dict[str, torch.Tensor],
        objective: Objective,
        training: Training,
        micro: int,
        accelerator: Any,
        log: Log,
    ) -> None:
        """``unet`` may be wrapped for several processes; ``micro`` images pass at a time.

        Only a single process may lower ``micro`` if they do not fit, as several must agree on it.
        """
        self.unet, self.parameters, self.objective, self.training = unet, parameters, objective, training
        self.accelerator = accelerator
        self.adaptive_batch = AdaptiveBatchSize(micro, log, HINT, may_halve=accelerator.num_processes == 1)
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        base_dtype = next(value.dtype for value in unet.parameters() if not value.requires_grad)
        self.loss_scale = FP16_SCALE if base_dtype == torch.float16 else 1.0
        self.ema: dict[str, torch.Tensor] = {}
        if training.ema_decay:
            self.ema = {name: value.detach().clone() for name, value in parameters.items()}
        device = next(iter(parameters.values())).device
        self.skipped_steps = torch.zeros((), device=device)
        self.nonfinite_in_a_row = torch.zeros((), device=device)
        self.most_nonfinite_in_a_row = torch.zeros((), device=device)

    def step(self, step: int, data: Encoded, randomness: StepRandomness) -> tuple[torch.Tensor, torch.Tensor]:
        """Run step ``step``; return the sum of this process's losses and the gradient norm before clipping.

        Both stay on the device.
        """
        loss = self.adaptive_batch(lambda micro: self._accumulate(data, randomness, micro))
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        if self.loss_scale != 1:
            torch._foreach_div_(gradients, self.loss_scale)
        grad_norm = torch.nn.utils.get_total_norm(gradients)
        nonfinite = (~torch.isfinite(grad_norm)).float()
        torch._foreach_mul_(gradients, (self.training.max_grad_norm / (grad_norm + 1e-6)).clamp(max=1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training, step)
        # where found_inf is 1, the fused kernel changes neither weights nor moments
        setattr(self.optimizer, "found_inf", nonfinite)  # noqa: B010
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._count(nonfinite)
        if self.ema:
            weight = 1 - float(self.training.ema_decay or 0)
            torch._foreach_lerp_(list(self.ema.values()), list(self.parameters.values()), weight)
        return loss, grad_norm

    def _accumulate(self, data: Encoded, randomness: StepRandomness, micro: int) -> torch.Tensor:
        """Accumulate the gradient of the mean loss of all processes; return the sum of this one's losses."""
        world, n = self.accelerator.num_processes, len(randomness.rows)
        total = torch.zeros((), device=data.mean.device)
        self.optimizer.zero_grad(set_to_none=True)  # left by an attempt that ran out of memory
        for start in range(0, n, micro):
            is_last = start + micro >= n
            part = randomness.part(start, min(start + micro, n))
            with nullcontext() if is_last else self.accelerator.no_sync(self.unet):
                loss = self.objective.losses(self.unet, data, part).sum()
                # DDP averages gradients over processes; times their number it is a sum.
                (loss * (self.loss_scale * world / self.training.batch_size)).backward()
            total += loss.detach()
        return total

    def _count(self, nonfinite: torch.Tensor) -> None:
        """Count skipped steps; ``nonfinite`` is 1 or 0."""
        self.skipped_steps = self.skipped_steps + nonfinite
        self.nonfinite_in_a_row = (self.nonfinite_in_a_row + nonfinite) * nonfinite
        self.most_nonfinite_in_a_row = torch.maximum(self.most_nonfinite_in_a_row, self.nonfinite_in_a_row)

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """For the block, give the UNet the weights that are saved: the moving average if there is one."""
        self._swap_ema()
        try:
            yield
        finally:
            self._swap_ema()

    @torch.no_grad()
    def _swap_ema(self) -> None:
        for name, average in self.ema.items():
            weight = self.parameters[name].detach().clone()
            self.parameters[name].copy_(average)
            average.copy_(weight)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, by name."""
        return state_tensors(self._weights(), {"lora": self.optimizer})

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned. Raises ``KeyError`` if a tensor is missing."""
        restore_state(state, self._weights(), {"lora": self.optimizer})

    def _weights(self) -> dict[str, torch.Tensor]:
        """Tensors by their names in a checkpoint."""
        averages = {f"mean/{name}": value for name, value in self.ema.items()}
        counts = {"bad_in_a_row": self.nonfinite_in_a_row, "skipped": self.skipped_steps}
        return {**self.parameters, **averages, **counts}
