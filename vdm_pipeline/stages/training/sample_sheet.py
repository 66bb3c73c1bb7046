"""Sample sheets: what the adapter draws while it is trained."""

from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.io.images import image_grid, write_png
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.randomness import fixed_randomness

STEPS, COLUMNS = 20, 6
"""DDIM steps, and images a caption; the same noise on every sheet, so that sheets compare."""


@torch.no_grad()
def sample_sheet(unet: Any, vae: Any, scheduler: Any, data: Encoded, micro: int, path: Path) -> None:
    """Write one PNG: a row a caption, drawn by DDIM (Song et al., 2021) without guidance from noise that is always the same.

    ``micro`` images are drawn at a time.
    """
    from diffusers import DDIMScheduler

    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(STEPS, device=data.mean.device)
    captions = len(data.text)
    noise = fixed_randomness(COLUMNS, data.latent, scheduler.config.num_train_timesteps).noise.to(
        data.mean.device
    )
    latents = noise.repeat(captions, 1, 1, 1) * ddim.init_noise_sigma
    texts = data.text.repeat_interleave(COLUMNS, dim=0)
    drawn = []
    for part, text in zip(latents.split(micro), texts.split(micro), strict=True):
        for step in ddim.timesteps:
            predicted = unet(part.to(text.dtype), step, text, return_dict=False)[0].float()
            part = ddim.step(predicted, step, part).prev_sample
        drawn.append(vae.decode(part.to(vae.dtype) / vae.config.scaling_factor).sample.float())
    pixels = ((torch.cat(drawn) + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    write_png(path, image_grid(list(pixels), columns=COLUMNS))
