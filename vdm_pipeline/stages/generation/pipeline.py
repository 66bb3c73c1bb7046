"""Stable Diffusion for one arm: the UNet with fused adapters, the VAE and the scheduler."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.io.progress import Log
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Arm
from vdm_pipeline.stages.models.diffusion import load_component, quiet_hf_logging
from vdm_pipeline.stages.runtime.batch_size import AdaptiveBatchSize

VAE_BATCH_SIZE = 8
"""Images that the VAE decodes at a time. Decoding needs by far the most memory, and more are no faster."""


class Sampler:
    """Samples images of one arm on one device from prompt embeddings; it has no text encoder."""

    def __init__(
        self,
        arm: Arm,
        device: torch.device,
        dtype: torch.dtype,
        batch_size: int,
        log: Log,
        *,
        compiled: bool = False,
    ) -> None:
        """Load the models and fuse the adapters.

        ``batch_size`` images share a forward pass, or as many as fit the GPU's memory. Raises `ModelError`
        if a component is missing or an adapter changes nothing.
        """
        self.arm, self.device, self.dtype = arm, device, dtype
        hint = "set a smaller training.resolution, or generation.guidance_scale = 1"
        self.adaptive_batch = AdaptiveBatchSize(batch_size, log, hint)
        unet, vae = load_unet_with_adapters(arm.base, arm.adapters), load_component(arm.base, "vae", dtype)
        fuse(unet, arm.adapters)
        with quiet_hf_logging():  # diffusers warns at every change of dtype
            self.unet = unet.to(device, dtype).to(memory_format=torch.channels_last)
        self.unet_forward = torch.compile(self.unet) if compiled else self.unet
        self.vae = vae.to(device).to(memory_format=torch.channels_last)
        self.scheduler = _load_scheduler(arm)

    @torch.inference_mode()
    def sample(self, prompt_embeds: torch.Tensor, seeds: Sequence[int]) -> NDArray[np.float32]:
        """One image per seed: floats ``[n, size, size, 3]`` in [0, 1], NaN where a pixel is not finite.

        ``prompt_embeds`` is ``[n, 77, d]``; with guidance ``[2n, 77, d]``, those of the empty prompt first.
        Every image has its own generator on the CPU, so it depends neither on the other images nor on the
        device. Raises `PipelineError` if not even one image fits the GPU's memory.
        """
        embeds_by_image = prompt_embeds.unflatten(0, (-1, len(seeds)))  # [1 or 2, n, 77, d]

        def sample_in_batches(batch_size: int) -> NDArray[np.float32]:
            batches = [slice(start, start + batch_size) for start in range(0, len(seeds), batch_size)]
            images = [
                self._sample_batch(embeds_by_image[:, batch].flatten(0, 1), seeds[batch]) for batch in batches
            ]
            return np.concatenate(images)

        return self.adaptive_batch(sample_in_batches)

    def _sample_batch(self, prompt_embeds: torch.Tensor, seeds: Sequence[int]) -> NDArray[np.float32]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        latents = self._prepare_latents(generators)
        self.scheduler.set_timesteps(self.arm.num_inference_steps, device=self.device)
        for timestep in self.scheduler.timesteps:
            model_input = self.scheduler.scale_model_input(latents, timestep)
            noise_pred = self._predict_noise(model_input, timestep, prompt_embeds)
            step = self.scheduler.step(noise_pred, timestep, latents, generator=generators, return_dict=False)
            latents = step[0]
        return self._decode(latents)

    def _prepare_latents(self, generators: list[torch.Generator]) -> torch.Tensor:
        """Initial noise, ``[n, 4, size/8, size/8]``."""
        from diffusers.utils.torch_utils import randn_tensor

        side = self.arm.size // (2 ** (len(self.vae.config.block_out_channels) - 1))
        shape = (len(generators), self.unet.config.in_channels, side, side)
        noise = randn_tensor(shape, generator=generators, device=self.device, dtype=self.dtype)
        return noise * self.scheduler.init_noise_sigma

    def _predict_noise(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        """Noise prediction, with classifier-free guidance unless ``guidance_scale`` is 1."""
        scale = self.arm.guidance_scale
        if scale == 1:
            return self.unet_forward(latents, timestep, prompt_embeds, return_dict=False)[0]
        doubled = torch.cat([latents, latents])
        noise_pred = self.unet_forward(doubled, timestep, prompt_embeds, return_dict=False)[0]
        noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
        return noise_pred_uncond + scale * (noise_pred_text - noise_pred_uncond)

    def _decode(self, latents: torch.Tensor) -> NDArray[np.float32]:
        """Images of the latents, as `sample` returns them."""
        parts = (latents / self.vae.config.scaling_factor).split(VAE_BATCH_SIZE)
        decoded = torch.cat([self.vae.decode(part, return_dict=False)[0].float() for part in parts])
        scaled = (decoded / 2 + 0.5).clamp(0, 1)
        images = torch.where(decoded.isfinite(), scaled, torch.nan)  # the clamp hides infinities
        return images.permute(0, 2, 3, 1).cpu().numpy()


def _load_scheduler(arm: Arm) -> Any:
    """``lcm``: that of the LCM-LoRA; ``dpm``: DPM-Solver++ (Lu et al., 2022); it adds no noise."""
    from diffusers import DPMSolverMultistepScheduler, LCMScheduler

    kinds = {"lcm": LCMScheduler, "dpm": DPMSolverMultistepScheduler}
    return kinds[arm.scheduler].from_config(load_component(arm.base, "scheduler").config)
