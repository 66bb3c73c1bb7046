"""What the UNet is to predict, and how much each image counts."""

from typing import Any

import torch
import torch.nn.functional as F

from vdm_pipeline.settings import Training
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.randomness import StepRandomness


class Objective:
    """Denoising loss under the base's own noise schedule and prediction type (epsilon or velocity)."""

    def __init__(self, scheduler: Any, training: Training, device: torch.device) -> None:
        """``scheduler`` is the base's DDPM scheduler. Raises ``ValueError`` for a prediction type that is neither."""
        self.velocity = scheduler.config.prediction_type == "v_prediction"
        if not self.velocity and scheduler.config.prediction_type != "epsilon":
            raise ValueError(
                f"prediction type {scheduler.config.prediction_type!r} is neither epsilon nor v_prediction"
            )
        self.training = training
        self.timesteps = int(scheduler.config.num_train_timesteps)
        self.alphas_cumprod = scheduler.alphas_cumprod.to(device, torch.float32)

    def losses(self, unet: Any, data: Encoded, randomness: StepRandomness) -> torch.Tensor:
        """Weighted squared error an image ``[n]``, fp32; ``data`` lies on the UNet's device."""
        device, dtype = data.mean.device, data.text.dtype
        rows, mirrored, steps = (
            value.to(device, non_blocking=True)
            for value in (randomness.rows, randomness.mirrored, randomness.timesteps)
        )
        posterior, noise, offset = (
            value.to(device, non_blocking=True)
            for value in (randomness.posterior, randomness.noise, randomness.offset)
        )
        place = mirrored.long() * data.n + rows
        latents = data.mean[place] + data.std[place] * posterior
        noise = noise + self.training.noise_offset * offset
        level = self.alphas_cumprod[steps][:, None, None, None]
        noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
        target = level.sqrt() * noise - (1 - level).sqrt() * latents if self.velocity else noise
        predicted = unet(noisy.to(dtype), steps, data.text[data.caption[rows]], return_dict=False)[0]
        return F.mse_loss(predicted.float(), target, reduction="none").mean((1, 2, 3)) * self.weights(steps)

    def weights(self, steps: torch.Tensor) -> torch.Tensor:
        """Min-SNR weights ``[n]`` (Hang et al., 2023, equation 5), as weights of a loss on noise or velocity; ones without gamma."""
        if self.training.snr_gamma is None:
            return torch.ones(len(steps), device=steps.device)
        snr = self.alphas_cumprod[steps] / (1 - self.alphas_cumprod[steps])
        return snr.clamp(max=self.training.snr_gamma) / (snr + 1 if self.velocity else snr)
