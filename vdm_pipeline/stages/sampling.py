"""`generated_images` and `baseline_images`: one plan of prompts and seeds, two sets of adapters."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.manifest import file_sha256
from vdm_pipeline.io.tables import read_rows, write_rows
from vdm_pipeline.settings import Classes, Generation
from vdm_pipeline.stages.diffusion import encode_prompts, hushed_libraries, load_part
from vdm_pipeline.stages.metrics.images import chroma, to_grey
from vdm_pipeline.stages.training.adapter import WEIGHTS

Progress = Callable[[int, int], None]

LEAST_CHANGE = 1e-5
"""An adapter whose update is smaller than this share of every layer's weights draws the same pixels as none."""


@dataclass(frozen=True)
class Shot:
    """One image to make; the same in both arms."""

    index: int
    label: str
    prompt: str
    seed: int

    @property
    def file_name(self) -> str:
        """``gen_000.png`` and so on."""
        return f"gen_{self.index:03d}.png"


@dataclass(frozen=True)
class Adapter:
    """A LoRA folder or file with the weight it is mixed in with."""

    name: str
    path: Path
    weight: float


def plan(classes: Classes, generation: Generation) -> list[Shot]:
    """``per_class`` images of each class, in class order; image i has the seed ``seed + i``."""
    labels = [label for label in range(len(classes.names)) for _ in range(generation.per_class)]
    return [Shot(i, classes.names[label], classes.caption(label), generation.seed + i) for i, label in enumerate(labels)]


def load_pipeline(base: Path, adapters: list[Adapter], device: torch.device, dtype: torch.dtype) -> Any:
    """Stable Diffusion with the LCM scheduler and the adapters mixed into its UNet; no text encoder, prompts come encoded.

    Raises `ModelError` if an adapter changes nothing: a run without it would look like one with it.
    """
    from diffusers import LCMScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=load_part(base, "vae", dtype),
        unet=load_part(base, "unet", dtype),
        text_encoder=None,
        tokenizer=None,
        scheduler=LCMScheduler.from_config(load_part(base, "scheduler").config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for adapter in adapters:
        name = WEIGHTS if adapter.path.is_dir() else adapter.path.name
        folder = adapter.path if adapter.path.is_dir() else adapter.path.parent
        with hushed_libraries():
            pipe.load_lora_weights(folder, weight_name=name, adapter_name=adapter.name, use_safetensors=True)
    pipe.set_adapters([a.name for a in adapters], [a.weight for a in adapters])
    refuse_idle(pipe.unet, adapters)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def refuse_idle(unet: Any, adapters: list[Adapter]) -> None:
    """Raise `ModelError` if an adapter is not active on any layer, or changes none by as much as `LEAST_CHANGE`."""
    for adapter in adapters:
        layers = [m for m in unet.modules() if adapter.name in getattr(m, "lora_B", {}) and adapter.name in m.active_adapters]
        if not any(_relative_change(layer, adapter.name) >= LEAST_CHANGE for layer in layers):
            raise ModelError(
                f"Adapter '{adapter.name}' from {adapter.path} is not active: it changes no layer of the UNet; train it again."
            )


@torch.no_grad()
def _relative_change(layer: Any, name: str) -> float:
    """Norm of the adapter's update over the norm of the layer's own weights."""
    up, down = layer.lora_B[name].weight.float().flatten(1), layer.lora_A[name].weight.float().flatten(1)
    return float(layer.scaling[name] * torch.linalg.norm(up @ down) / torch.linalg.norm(layer.get_base_layer().weight.float()))


@torch.inference_mode()
def generate(
    *,
    base: Path,
    adapters: list[Adapter],
    shots: list[Shot],
    generation: Generation,
    size: int,
    folder: Path,
    base_model: str,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Write an image a shot and ``metadata.jsonl`` into ``folder``; what an interrupted call made is kept.

    Every image has a generator of its own, on the CPU, and every batch has the same shape (the last is padded), so an
    image does not depend on the others. Raises `PipelineError` for an image that is not finite.
    """
    rows_path = folder / "metadata.jsonl"
    rows = read_rows(rows_path) if rows_path.exists() else []
    made = {row["file_name"] for row in rows if (folder / row["file_name"]).exists()}
    todo = [shot for shot in shots if shot.file_name not in made]
    rows = [row for row in rows if row["file_name"] in made]
    prompts = sorted({shot.prompt for shot in shots})
    embeddings = encode_prompts(base, ["", *prompts], device, dtype)
    pipe = load_pipeline(base, adapters, device, dtype)
    common = {
        "steps": generation.steps,
        "guidance_scale": generation.guidance_scale,
        "adapters": {adapter.name: adapter.weight for adapter in adapters},
        "base_model": base_model,
        "lora_sha256": next((file_sha256(a.path / WEIGHTS) for a in adapters if a.name == "lora"), None),
    }
    batch = min(batch, len(shots))
    for start in range(0, len(todo), batch):
        part = todo[start : start + batch]
        padded = part + part[-1:] * (batch - len(part))
        condition = embeddings[[1 + prompts.index(shot.prompt) for shot in padded]]
        images = pipe(
            prompt_embeds=condition,
            negative_prompt_embeds=embeddings[[0] * batch],
            num_inference_steps=generation.steps,
            guidance_scale=generation.guidance_scale,
            height=size,
            width=size,
            generator=[torch.Generator().manual_seed(shot.seed) for shot in padded],
            output_type="np",
        ).images[: len(part)]
        for shot, image in zip(part, to_uint8(images, part), strict=True):
            row = {"file_name": shot.file_name, "label": shot.label, "prompt": shot.prompt, "seed": shot.seed, **common}
            row["chroma"] = round(float(chroma(image[None])[0]), 4)
            text = {"parameters": json.dumps(row, ensure_ascii=False)}
            write_png(folder / shot.file_name, to_grey(image[None])[0] if generation.grey else image, text)
            rows.append(row)
        write_rows(rows_path, sorted(rows, key=lambda row: row["file_name"]))
        progress(len(rows), len(shots))
    return sorted(rows, key=lambda row: row["file_name"])


def to_uint8(images: NDArray[np.float32], shots: list[Shot]) -> NDArray[np.uint8]:
    """Floats ``[n, h, w, 3]`` in [0, 1] to uint8; raises `PipelineError` naming the first image that is not finite."""
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    if not finite.all():
        shot = shots[int(np.argmin(finite))]
        raise PipelineError(f"Image {shot.file_name} (seed {shot.seed}) is not finite; the adapter or its weight is broken.")
    return np.round(images * 255).astype(np.uint8)
