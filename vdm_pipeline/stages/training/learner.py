"""One optimizer step: micro-batches, clipping that clips, and no step by a gradient that is not finite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Training
from vdm_pipeline.stages.training.checkpoints import gather, scatter
from vdm_pipeline.stages.training.draws import Draws
from vdm_pipeline.stages.training.examples import Encoded
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.schedule import learning_rate

T = TypeVar("T")
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
        """``unet`` may be wrapped for several processes; ``micro`` images pass at a time."""
        self.unet, self.parameters, self.objective, self.training = unet, parameters, objective, training
        self.micro, self.accelerator, self.log = micro, accelerator, log
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        device = next(iter(parameters.values())).device
        half = next(p.dtype for p in unet.parameters() if not p.requires_grad) == torch.float16
        self.scale = FP16_SCALE if half else 1.0
        self.mean = {name: value.detach().clone() for name, value in parameters.items()} if training.ema_decay else {}
        self.bad_in_a_row, self.skipped = torch.zeros((), device=device), torch.zeros((), device=device)
        self.worst_row = torch.zeros((), device=device)

    def step(self, step: int, data: Encoded, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        """Do step ``step``; the sum of this process's losses, and the gradient's norm before clipping, both on the device."""
        loss = self.fitting(lambda: self._accumulate(data, draws))
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
            torch._foreach_lerp_(list(self.mean.values()), list(self.parameters.values()), 1 - float(self.training.ema_decay or 0))
        return loss, norm

    def fitting(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, which takes `micro` images at a time; when they do not fit, half of them, and so on.

        Raises `PipelineError` if not even one fits, or where several processes would have to agree on it.
        """
        while True:
            try:
                return compute()
            except torch.OutOfMemoryError:
                self.optimizer.zero_grad(set_to_none=True)
                if self.micro == 1 or self.accelerator.num_processes > 1:
                    raise PipelineError(
                        f"{self.micro} images at a time do not fit the GPU's memory; set a smaller execution.micro_batch, "
                        "execution.gradient_checkpointing = true, or a smaller training.resolution."
                    ) from None
                self.micro //= 2
                torch.cuda.empty_cache()
                self.log(f"out of memory: going on with {self.micro} images at a time; the step's images and result stay the same")

    def _accumulate(self, data: Encoded, draws: Draws) -> torch.Tensor:
        """Gradients of the mean over the step's images, whatever their split over parts and processes."""
        world, n = self.accelerator.num_processes, len(draws.rows)
        total = torch.zeros((), device=data.mean.device)
        for start in range(0, n, self.micro):
            last = start + self.micro >= n
            with nullcontext() if last else self.accelerator.no_sync(self.unet):
                losses = self.objective.losses(self.unet, data, draws.part(start, min(start + self.micro, n))).sum()
                (losses * (self.scale * world / self.training.batch)).backward()
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
