"""One optimizer step: micro-batches, clipping that clips, and no step by a gradient that is not finite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from vdm_pipeline.settings import Training
from vdm_pipeline.stages.runtime.batch_size import AdaptiveBatchSize
from vdm_pipeline.stages.training.checkpoints import gather, scatter
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.randomness import StepRandomness
from vdm_pipeline.stages.training.schedule import learning_rate

HINT = "set a smaller execution.micro_batch_size, execution.gradient_checkpointing = true, or a smaller training.resolution"
FP16_SCALE = 2.0**12
"""Gradients that pass through fp16 layers are multiplied by this on the way, so that small ones do not vanish."""


class Learner:
    """A UNet with its adapter, AdamW over the adapter alone, and optionally a running mean of it (EMA).

    Nothing here waits for the GPU: norms, clipping and the verdict on a gradient stay on the device.
    """

    def __init__(
        self,
        unet: Any,
        parameters: dict[str, torch.Tensor],
        objective: Objective,
        training: Training,
        micro: int,
        accelerator: Any,
        log: Callable[[str], None],
    ) -> None:
        """``unet`` may be wrapped for several processes, which must agree on how many images pass at a time: ``micro``, if they fit."""
        self.unet, self.parameters, self.objective, self.training = unet, parameters, objective, training
        self.accelerator = accelerator
        self.adaptive_batch = AdaptiveBatchSize(micro, log, HINT, may_halve=accelerator.num_processes == 1)
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        device = next(iter(parameters.values())).device
        half = next(p.dtype for p in unet.parameters() if not p.requires_grad) == torch.float16
        self.scale = FP16_SCALE if half else 1.0
        self.mean = (
            {name: value.detach().clone() for name, value in parameters.items()} if training.ema_decay else {}
        )
        self.bad_in_a_row, self.skipped = torch.zeros((), device=device), torch.zeros((), device=device)
        self.worst_row = torch.zeros((), device=device)

    def step(self, step: int, data: Encoded, randomness: StepRandomness) -> tuple[torch.Tensor, torch.Tensor]:
        """Do step ``step``; the sum of this process's losses, and the gradient's norm before clipping, both on the device."""
        loss = self.adaptive_batch(lambda micro: self._accumulate(data, randomness, micro))
        gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
        if self.scale != 1:
            torch._foreach_div_(gradients, self.scale)
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = (~torch.isfinite(norm)).float()
        torch._foreach_mul_(gradients, (self.training.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training, step)
        setattr(self.optimizer, "found_inf", bad)  # noqa: B010  (the fused kernel leaves weights and moments alone where it is 1)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.bad_in_a_row, self.skipped = (self.bad_in_a_row + bad) * bad, self.skipped + bad
        self.worst_row = torch.maximum(self.worst_row, self.bad_in_a_row)
        if self.mean:
            torch._foreach_lerp_(
                list(self.mean.values()),
                list(self.parameters.values()),
                1 - float(self.training.ema_decay or 0),
            )
        return loss, norm

    def _accumulate(self, data: Encoded, randomness: StepRandomness, micro: int) -> torch.Tensor:
        """Gradients of the mean over the step's images, whatever their split over parts and processes."""
        world, n = self.accelerator.num_processes, len(randomness.rows)
        total = torch.zeros((), device=data.mean.device)
        self.optimizer.zero_grad(set_to_none=True)  # what a try that did not fit has left
        for start in range(0, n, micro):
            last = start + micro >= n
            with nullcontext() if last else self.accelerator.no_sync(self.unet):
                losses = self.objective.losses(
                    self.unet, data, randomness.part(start, min(start + micro, n))
                ).sum()
                (losses * (self.scale * world / self.training.batch_size)).backward()
            total += losses.detach()
        return total

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The UNet as it will be saved: with the running mean of the adapter, where there is one."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.mean.items():
            weight = self.parameters[name].detach().clone()
            self.parameters[name].copy_(mean)
            mean.copy_(weight)

    def state(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on, by name."""
        return gather(self._weights(), {"lora": self.optimizer})

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Put back what `state` gave. Raises ``KeyError`` if something is missing."""
        scatter(state, self._weights(), {"lora": self.optimizer})

    def _weights(self) -> dict[str, torch.Tensor]:
        means = {f"mean/{name}": value for name, value in self.mean.items()}
        return {**self.parameters, **means, "bad_in_a_row": self.bad_in_a_row, "skipped": self.skipped}
