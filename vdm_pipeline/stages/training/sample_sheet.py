"""Sample sheets: images that the adapter generates during its training."""

from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.io.images import image_grid, write_png
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.randomness import fixed_randomness

STEPS, COLUMNS = 20, 6
"""DDIM steps, and images per caption."""


@torch.no_grad()
def sample_sheet(unet: Any, vae: Any, scheduler: Any, data: Encoded, micro: int, path: Path) -> None:
    """Write one PNG with a row of images per caption, generated ``micro`` at a time.

    DDIM (Song et al., 2021) without guidance. Every row and every sheet has the same noise, so they compare.
    """
    from diffusers import DDIMScheduler

    device = data.mean.device
    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(STEPS, device=device)
    randomness = fixed_randomness(COLUMNS, data.latent_shape, scheduler.config.num_train_timesteps)
    latents = randomness.noise.to(device).repeat(len(data.text), 1, 1, 1) * ddim.init_noise_sigma
    texts = data.text.repeat_interleave(COLUMNS, dim=0)
    images = []
    for part, text in zip(latents.split(micro), texts.split(micro), strict=True):
        for timestep in ddim.timesteps:
            predicted = unet(part.to(text.dtype), timestep, text, return_dict=False)[0].float()
            part = ddim.step(predicted, timestep, part).prev_sample
        images.append(vae.decode(part.to(vae.dtype) / vae.config.scaling_factor).sample.float())
    pixels = ((torch.cat(images) + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    write_png(path, image_grid(list(pixels), columns=COLUMNS))
