"""Write the trained models: public formats, fp16 safetensors, and pins."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from vdm_pipeline.embedded.training import clip, lcm, sd, vae
from vdm_pipeline.embedded.training.cards import MODELS
from vdm_pipeline.embedded.training.run import Run
from vdm_pipeline.embedded.training.text import captions, tokenizer
from vdm_pipeline.io.atomic import replace_path, write_text
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.io.tensors import LORA_WEIGHTS, write_tensors
from vdm_pipeline.stages.models.diffusion import quiet_hf_logging
from vdm_pipeline.stages.training.adapter import lora_header, lora_tensors


def export(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace ``folder`` by what ``write`` writes to a new one. Its model card is written later."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # left by a killed run
    new.mkdir(parents=True)
    write(new)
    for path in new.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors lets only the owner read its files
    replace_path(new, folder)


def write_clip(model: torch.nn.Module, folder: Path) -> None:
    """Write an open_clip folder with its tokenizer, which ``local-dir:`` loads."""
    config = {
        "model_cfg": clip.CONFIG,
        "preprocess_cfg": {
            key: clip.PREPROCESS[key] for key in ("mean", "std", "interpolation", "resize_mode")
        },
    }
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=1))
    state = {
        name: value.detach().to("cpu", torch.float16).contiguous().clone()
        for name, value in model.state_dict().items()
        if name != "attn_mask"
    }
    write_tensors(folder / "open_clip_model.safetensors", state, {"format": "pt"})
    tokenizer().save_pretrained(folder)


def write_sd(autoencoder: Any, unet: Any, text: Any, folder: Path) -> None:
    """Write a Stable Diffusion folder that ``from_pretrained`` loads; ``unet`` must not have an adapter."""
    pipe = StableDiffusionPipeline(
        vae=_half(autoencoder),
        unet=_half(unet),
        text_encoder=_half(text),
        tokenizer=tokenizer(),
        scheduler=DDPMScheduler(**sd.SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with quiet_hf_logging():
        pipe.save_pretrained(folder, safe_serialization=True)


def _half(model: Any) -> Any:
    return copy.deepcopy(model).cpu().half()


def write_lcm(unet: Any, folder: Path) -> None:
    """Write the adapter ``lcm`` of ``unet`` in diffusers' LoRA format."""
    tensors = {name: value.half() for name, value in lora_tensors(unet, "lcm").items()}
    write_tensors(folder / LORA_WEIGHTS, tensors, lora_header(unet, "lcm"))


def training_facts(run: Run) -> dict[str, dict[str, Any]]:
    """How each model is trained in ``run``, by model, for the cards."""
    return {
        "clip": {
            "steps": run.scaled(clip.STEPS),
            "batch_size": clip.BATCH,
            "films_per_class": run.scaled(clip.IMAGES_PER_CLASS),
            "captions_per_class": len(captions(False)),
        },
        "vae": {
            "steps": run.scaled(vae.STEPS),
            "batch_size": vae.BATCH,
            "films_per_class": run.scaled(vae.IMAGES_PER_CLASS),
        },
        "sd": {
            "steps": run.scaled(sd.STEPS),
            "batch_size": sd.BATCH,
            "healthy_films": run.scaled(sd.HEALTHY_IMAGES),
            "empty_captions": sd.DROPPED,
        },
        "lcm_lora": {
            "steps": run.scaled(lcm.STEPS),
            "batch_size": lcm.BATCH,
            "solver_steps": lcm.SOLVER_STEPS,
        },
    }


def write_pins(models: Path) -> None:
    """Write the digest of each model to ``pins.json``; `resolve_model` rejects any other content."""
    pins = {name: folder_digest(models / name) for name in MODELS}
    write_text(models / "pins.json", json.dumps(pins, indent=1) + "\n")
