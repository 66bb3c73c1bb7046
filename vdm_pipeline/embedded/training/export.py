"""Write the trained models into the package: public formats, fp16 safetensors, and pins."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

from vdm_pipeline.embedded.training.clip import CONFIG, PREPROCESS
from vdm_pipeline.embedded.training.sd import SCHEDULE
from vdm_pipeline.embedded.training.text import tokenizer
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.training.adapter import lora_header, lora_tensors


def export_clip(model: torch.nn.Module, folder: Path) -> None:
    """Write an open_clip folder with its tokenizer, which ``local-dir:`` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": CONFIG,
        "preprocess_cfg": {key: PREPROCESS[key] for key in ("mean", "std", "interpolation", "resize_mode")},
    }
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=1))
    state = {
        name: value.half().contiguous().clone()
        for name, value in model.state_dict().items()
        if name != "attn_mask"
    }
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    tokenizer().save_pretrained(folder)


def export_sd(vae: Any, unet: Any, text: Any, folder: Path) -> None:
    """Write a Stable Diffusion folder that ``from_pretrained`` loads; ``unet`` must not have an adapter."""
    pipe = StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(),
        unet=copy.deepcopy(unet).half(),
        text_encoder=copy.deepcopy(text).half(),
        tokenizer=tokenizer(),
        scheduler=DDPMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)


def export_lcm(unet: Any, folder: Path) -> None:
    """Write the adapter ``lcm`` of ``unet`` in diffusers' LoRA format."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half() for name, value in lora_tensors(unet, "lcm").items()}
    save_file(tensors, folder / "pytorch_lora_weights.safetensors", metadata=lora_header(unet, "lcm"))


def write_pins() -> None:
    """Write the digest of each embedded model; `resolve_model` rejects any other content."""
    pins = {name: folder_digest(EMBEDDED / name) for name in ("clip", "sd", "lcm_lora")}
    write_text(EMBEDDED / "pins.json", json.dumps(pins, indent=1) + "\n")
