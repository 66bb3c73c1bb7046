"""Stable Diffusion 1.5's architecture with random weights: as much work a step, and nothing to download (4.3 GB on disk)."""

import shutil
from pathlib import Path

from vdm_pipeline.stages.models import EMBEDDED

CHANNELS = 768
"""Width of the text embeddings."""


def write_sd15(folder: Path) -> Path:
    """A base folder in diffusers' format, with the embedded model's tokenizer and scheduler, whose vocabulary is smaller."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    for part in ("tokenizer", "scheduler"):
        shutil.copytree(EMBEDDED / "sd" / part, folder / part)
    UNet2DConditionModel(cross_attention_dim=CHANNELS).save_pretrained(folder / "unet")
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    ).save_pretrained(folder / "vae")
    CLIPTextModel(
        CLIPTextConfig(
            hidden_size=CHANNELS,
            intermediate_size=4 * CHANNELS,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=CHANNELS,
        )
    ).save_pretrained(folder / "text_encoder")
    return folder
