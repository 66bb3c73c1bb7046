"""LoRA adapters in a UNet: load them, check that they act, and fuse them into the weights."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation.adapter_file import LoraLayer, read_lora
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component, quiet_hf_logging
from vdm_pipeline.stages.models.loading import loading

MIN_RELATIVE_UPDATE = 1e-5
"""An adapter with smaller updates in every layer, relative to the layer's weights, changes no pixel."""


def load_unet_with_adapters(base: Path, adapters: Sequence[Adapter]) -> Any:
    """The base's UNet in fp32, with the adapters beside its weights.

    fp32 on any device, because in half precision the sum of weight and update loses most of a small update.
    Raises `ModelError` if an adapter is damaged, belongs to another base, or changes nothing.
    """
    unet = load_component(base, "unet")
    if unet.config.time_cond_proj_dim is not None:
        raise ModelError(
            f"The UNet in {base} takes guidance as an input; set training.base to a plain Stable Diffusion."
        )
    shapes = weight_shapes(unet)
    for adapter in adapters:
        with loading(adapter.file):
            layers = read_lora(adapter.file, shapes)
        _load_layers(unet, adapter, layers)
    if adapters:
        unet.set_adapters([adapter.name for adapter in adapters], [adapter.weight for adapter in adapters])
    check_adapter_active(unet, adapters)
    return unet


def weight_shapes(unet: Any) -> dict[str, torch.Size]:
    """Shapes of the weights that a LoRA may update, by layer, of a UNet without adapters."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: module.weight.shape for name, module in unet.named_modules() if isinstance(module, kinds)}


def _load_layers(unet: Any, adapter: Adapter, layers: Mapping[str, LoraLayer]) -> None:
    """Add the layers to the UNet, and prove that each has its matrices and its scale."""
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        tensors |= {f"{name}.lora_A.weight": layer.down, f"{name}.lora_B.weight": layer.up}
        if layer.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = layer.magnitude
    with loading(adapter.file), quiet_hf_logging():
        unet.load_lora_adapter(tensors, prefix=None, adapter_name=adapter.name, metadata=_lora_config(layers))
    loaded = {name for name, module in unet.named_modules() if adapter.name in getattr(module, "lora_A", {})}
    wrong = [
        name
        for name in sorted(loaded | set(layers))
        if name not in layers or not _equals(unet.get_submodule(name), adapter.name, layers[name])
    ]
    if wrong:
        raise ModelError(
            f"{adapter.file} is not loaded as it was trained: {len(wrong)} layers, the first {wrong[0]}, "
            "differ in scale or weights; install the versions of peft and diffusers in constraints.txt."
        )


def _equals(module: Any, adapter: str, layer: LoraLayer) -> bool:
    """Whether the UNet's module has the layer's matrices and its scale, alpha / rank."""
    return (
        adapter in getattr(module, "lora_A", {})
        and math.isclose(module.scaling[adapter], layer.alpha / layer.rank, rel_tol=1e-6)
        and torch.equal(module.lora_A[adapter].weight, layer.down)
        and torch.equal(module.lora_B[adapter].weight, layer.up)
    )


def _lora_config(layers: Mapping[str, LoraLayer]) -> dict[str, Any]:
    """Options of peft's `LoraConfig` with each layer's rank and alpha."""
    ranks, alphas = (
        {name: getattr(layer, key) for name, layer in layers.items()} for key in ("rank", "alpha")
    )
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {_only(name): value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {_only(name): value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(layers),
        "use_dora": any(layer.magnitude is not None for layer in layers.values()),
    }


def _only(name: str) -> str:
    """A pattern of peft that matches this layer and no other one."""
    return f"^{re.escape(name)}"


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
