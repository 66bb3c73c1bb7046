"""LoRA adapters in a UNet: load them, check that they act, and fuse them into the weights."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component, quiet_hf_logging
from vdm_pipeline.stages.models.loading import loading

MIN_RELATIVE_UPDATE = 1e-5
"""An adapter with smaller updates in every layer, relative to the layer's weights, changes no pixel."""
LORA_A_SUFFIXES = ("lora_A.weight", "lora_down.weight", "lora.down.weight")
"""Names of a LoRA's first matrix in the formats of peft, kohya and diffusers."""
OTHER_PARTS = ("vae", "text_encoder", "tokenizer", "scheduler", "safety_checker", "feature_extractor")


def load_unet_with_adapters(base: Path, adapters: Sequence[Adapter]) -> Any:
    """The base's UNet in fp32, with the adapters beside its weights.

    fp32 on any device, because in half precision the sum of weight and update loses most of a small update.
    Raises `ModelError` if an adapter is damaged, belongs to another base, or changes nothing.
    """
    from diffusers import StableDiffusionPipeline

    unet = load_component(base, "unet")
    if unet.config.time_cond_proj_dim is not None:
        raise ModelError(
            f"The UNet in {base} takes guidance as an input; set training.base to a plain Stable Diffusion."
        )
    parts = dict.fromkeys(OTHER_PARTS)
    pipeline = StableDiffusionPipeline(unet=unet, **parts, requires_safety_checker=False)
    for adapter in adapters:
        _load_adapter(pipeline, adapter, base)
    if adapters:
        pipeline.set_adapters(
            [adapter.name for adapter in adapters], [adapter.weight for adapter in adapters]
        )
    check_adapter_active(unet, adapters)
    return unet


def _load_adapter(pipeline: Any, adapter: Adapter, base: Path) -> None:
    """Load one adapter; raises `ModelError` if the UNet lacks layers of it."""
    with loading(adapter.file), quiet_hf_logging():
        expected = count_unet_layers(adapter.file)
        pipeline.load_lora_weights(
            adapter.file.parent,
            weight_name=adapter.file.name,
            adapter_name=adapter.name,
            use_safetensors=True,
        )
    loaded = sum(adapter.name in getattr(module, "lora_A", {}) for module in pipeline.unet.modules())
    if loaded < expected:
        raise ModelError(
            f"{adapter.file} has {expected} layers, of which the UNet in {base} has {loaded}; "
            "use an adapter that was trained on this base."
        )


def count_unet_layers(file: Path) -> int:
    """Number of UNet layers in an adapter's file of any format; raises `ModelError` if there are none."""
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        names = [name for name in tensors.keys() if name.endswith(LORA_A_SUFFIXES)]  # noqa: SIM118
    layers = sum(not name.startswith(("text_encoder", "lora_te")) for name in names)
    if not layers:
        raise ModelError(f"{file} has no LoRA layer for a UNet; use another adapter.")
    return layers


def fuse(unet: Any, adapters: Sequence[Adapter]) -> None:
    """Add the adapters, in their order, to the UNet's original weights, and remove their layers."""
    if adapters:
        unet.fuse_lora(adapter_names=[adapter.name for adapter in adapters])
        unet.unload_lora()


def check_adapter_active(unet: Any, adapters: Sequence[Adapter]) -> None:
    """Raise `ModelError` if an adapter is not finite or changes no layer by `MIN_RELATIVE_UPDATE` or more."""
    for adapter in adapters:
        layers = [
            module
            for module in unet.modules()
            if adapter.name in getattr(module, "lora_B", {}) and adapter.name in module.active_adapters
        ]
        updates = [_relative_update(layer, adapter.name) for layer in layers]
        if not all(map(math.isfinite, updates)):
            raise ModelError(
                f"Weights of adapter '{adapter.name}' from {adapter.path}, or of its base, are not finite; "
                "train or download it again."
            )
        if not any(update >= MIN_RELATIVE_UPDATE for update in updates):
            raise ModelError(
                f"Adapter '{adapter.name}' from {adapter.path} is not active: "
                "it changes no layer of the UNet; train it again."
            )


@torch.no_grad()
def _relative_update(layer: Any, name: str) -> float:
    """Norm of the adapter's update over the norm of the layer's own weights."""
    up, down = layer.lora_B[name].weight.float().flatten(1), layer.lora_A[name].weight.float().flatten(1)
    update_norm = torch.linalg.norm(up @ down)
    weight_norm = torch.linalg.norm(layer.get_base_layer().weight.float())
    return float(layer.scaling[name] * update_norm / weight_norm)
