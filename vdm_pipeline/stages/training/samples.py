"""Sample sheets: what the adapter draws while it is trained."""

from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.io.images import image_grid, write_png
from vdm_pipeline.stages.training.draws import fixed_draws
from vdm_pipeline.stages.training.examples import Encoded

STEPS, COLUMNS = 20, 6
"""DDIM steps, and images a caption; the same noise on every sheet, so that sheets compare."""


@torch.no_grad()
def sample_sheet(unet: Any, vae: Any, scheduler: Any, data: Encoded, path: Path) -> None:
    """Write one PNG: a row a caption, drawn by DDIM (Song et al., 2021) without guidance from noise that is always the same."""
    from diffusers import DDIMScheduler

    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(STEPS, device=data.mean.device)
    captions = len(data.text)
    noise = fixed_draws(COLUMNS, data.latent, scheduler.config.num_train_timesteps).noise.to(data.mean.device)
    latents = noise.repeat(captions, 1, 1, 1) * ddim.init_noise_sigma
    text = data.text.repeat_interleave(COLUMNS, dim=0)
    for step in ddim.timesteps:
        predicted = unet(latents.to(text.dtype), step, text, return_dict=False)[0].float()
        latents = ddim.step(predicted, step, latents).prev_sample
    decoded = torch.cat([vae.decode(part / vae.config.scaling_factor).sample for part in latents.to(vae.dtype).split(COLUMNS)])
    pixels = ((decoded.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    write_png(path, image_grid(list(pixels), columns=COLUMNS))
