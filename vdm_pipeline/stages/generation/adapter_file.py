"""Read a LoRA file of peft, diffusers or kohya: matrices and alpha of each layer, under the UNet's names.

The libraries guess alpha for some layers and drop what they do not know. Here, every tensor of the file is
used as it was trained, or the file is refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation.adapter_config import AdapterConfig, read_config
from vdm_pipeline.stages.generation.adapter_names import (
    check_kind,
    is_configured,
    is_of_text_encoder,
    spellings,
    split_name,
    without_prefix,
)


@dataclass(frozen=True)
class LoraLayer:
    """The update ``alpha / rank * up @ down`` of a layer, fp32.

    ``down`` is ``[rank, in, ...]`` and ``up`` ``[out, rank, ...]``; ``magnitude`` ``[out]`` is that of DoRA.
    """

    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    magnitude: torch.Tensor | None

    @property
    def rank(self) -> int:
        """Rows of ``down``."""
        return len(self.down)


def read_lora(file: Path, weight_shapes: Mapping[str, torch.Size]) -> dict[str, LoraLayer]:
    """The layers of an adapter by the names that they have in a UNet with these weights.

    Raises `ModelError` if a tensor of the file would not be used: one of the text encoder, of another base,
    or of a method other than LoRA and peft's DoRA; and if matrices are missing, or do not fit.
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        header = content.metadata() or {}
    check_kind(file, tensors)
    parts = _group(file, tensors, weight_shapes)
    config = read_config(file, header, required=any(map(is_configured, tensors)))
    layers = {name: _layer(file, name, found, config) for name, found in parts.items()}
    _check_shapes(file, layers, weight_shapes)
    return layers


def _group(
    file: Path, tensors: Mapping[str, torch.Tensor], weight_shapes: Mapping[str, torch.Size]
) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors by layer of the UNet and part."""
    names = {spelling: name for name in weight_shapes for spelling in spellings(name)}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    text_encoder, foreign = set(), set()
    for key, tensor in tensors.items():
        layer, part = split_name(key)
        if is_of_text_encoder(key):
            text_encoder.add(layer)
            continue
        name = names.get(without_prefix(layer))
        if part is None:
            raise ModelError(
                f"{file} has the tensor '{key}', which does not belong to a LoRA; use another adapter."
            )
        if name is None:
            foreign.add(layer)
        elif part in parts.setdefault(name, {}):
            raise ModelError(f"{file} has two tensors for '{part}' of layer {name}; use another adapter.")
        else:
            parts[name][part] = tensor
    if foreign:
        form = "" if parts else ", with the layer names of diffusers or kohya"
        raise ModelError(
            f"{file} has {len(foreign) + len(parts)} layers, of which the UNet of the base has {len(parts)}, "
            f"and not '{min(foreign)}'; use an adapter that was trained on this base{form}."
        )
    if text_encoder:
        raise ModelError(
            f"{file} also has layers for the text encoder ({len(text_encoder)}), which would be left out; "
            "use an adapter of the UNet alone."
        )
    return parts


def _layer(
    file: Path, name: str, parts: Mapping[str, torch.Tensor], config: AdapterConfig | None
) -> LoraLayer:
    """A layer, with its own alpha, else the configured one, else its rank, as all formats have it."""
    missing = {"down", "up"} - set(parts)
    if missing:
        raise ModelError(f"{file} lacks the matrix '{min(missing)}' of layer {name}; use an intact file.")
    down, up = parts["down"].float(), parts["up"].float()
    if "alpha" in parts:
        alpha = _single_number(file, name, parts["alpha"])
    else:
        alpha = config.alpha(name, len(down)) if config else len(down)
    if not math.isfinite(alpha):
        raise ModelError(f"{file} has alpha = {alpha} for layer {name}; use an intact file.")
    if not all(value.float().isfinite().all() for value in parts.values()):  # fp8 lacks isfinite
        raise ModelError(f"{file} has values in layer {name} that are not finite; use an intact file.")
    magnitude = parts["magnitude"].float() if "magnitude" in parts else None
    if magnitude is None and config and config.options.get("use_dora"):
        raise ModelError(f"{file} lacks DoRA's magnitude of layer {name}; use an intact file.")
    return LoraLayer(down, up, alpha, magnitude)


def _single_number(file: Path, name: str, alpha: torch.Tensor) -> float:
    if alpha.numel() != 1:
        raise ModelError(f"{file} has {alpha.numel()} numbers as alpha of layer {name}; use an intact file.")
    return float(alpha)


def _check_shapes(
    file: Path, layers: Mapping[str, LoraLayer], weight_shapes: Mapping[str, torch.Size]
) -> None:
    """Raise `ModelError` if matrices do not fit the UNet's weights, or each other."""
    for name, layer in layers.items():
        out, *inputs = weight_shapes[name]
        ones = [1] * (len(inputs) - 1)
        expected = [layer.rank, *inputs], [out, layer.rank, *ones]
        shapes = list(layer.down.shape), list(layer.up.shape)
        if shapes != expected:
            raise ModelError(
                f"{file} has matrices {shapes[0]} and {shapes[1]} for layer {name}, whose weight is "
                f"{[out, *inputs]}; use an adapter that was trained on this base."
            )
        if layer.magnitude is not None and layer.magnitude.numel() != out:
            raise ModelError(
                f"{file} has {layer.magnitude.numel()} magnitudes of DoRA for layer {name}, which has {out} "
                "outputs; use an adapter that was trained on this base."
            )
    with_magnitude = sum(layer.magnitude is not None for layer in layers.values())
    if with_magnitude not in (0, len(layers)):
        raise ModelError(
            f"{file} has magnitudes of DoRA in {with_magnitude} of {len(layers)} layers; use an intact file."
        )
