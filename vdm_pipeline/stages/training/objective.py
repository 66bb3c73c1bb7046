"""The denoising loss: what the UNet predicts, and the weight of each image."""

from typing import Any

import torch
import torch.nn.functional as F

from vdm_pipeline.settings import Training
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.randomness import StepRandomness


class Objective:
    """Denoising loss under the base's own noise schedule and prediction type (epsilon or velocity)."""

    def __init__(self, scheduler: Any, training: Training, device: torch.device) -> None:
        """``scheduler`` is the base's DDPM scheduler. Raises ``ValueError`` for other prediction types."""
        prediction_type = scheduler.config.prediction_type
        if prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(f"prediction type {prediction_type!r} is neither epsilon nor v_prediction")
        self.v_prediction = prediction_type == "v_prediction"
        self.training = training
        self.num_train_timesteps = int(scheduler.config.num_train_timesteps)
        self.alphas_cumprod = scheduler.alphas_cumprod.to(device, torch.float32)

    def losses(self, unet: Any, data: Encoded, randomness: StepRandomness) -> torch.Tensor:
        """Weighted squared error per image ``[n]``, fp32; ``data`` is on the UNet's device."""
        randomness = randomness.to(data.mean.device)
        rows, timesteps = randomness.rows, randomness.timesteps
        index = randomness.mirrored.long() * data.n + rows
        latents = data.mean[index] + data.std[index] * randomness.posterior
        noise = randomness.noise + self.training.noise_offset * randomness.offset
        alpha = self.alphas_cumprod[timesteps][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents if self.v_prediction else noise
        text = data.text[data.caption_index[rows]]
        predicted = unet(noisy.to(text.dtype), timesteps, text, return_dict=False)[0]
        errors = F.mse_loss(predicted.float(), target, reduction="none").mean((1, 2, 3))
        return errors * self.weights(timesteps)

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Min-SNR weights ``[n]`` (Hang et al., 2023, equation 5) for a loss on noise or velocity.

        Ones if ``training.snr_gamma`` is not set.
        """
        if self.training.snr_gamma is None:
            return torch.ones(len(timesteps), device=timesteps.device)
        snr = self.alphas_cumprod[timesteps] / (1 - self.alphas_cumprod[timesteps])
        return snr.clamp(max=self.training.snr_gamma) / (snr + 1 if self.v_prediction else snr)
