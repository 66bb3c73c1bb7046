"""Read a LoRA file of peft, diffusers or kohya: matrices and alpha of each layer, under the UNet's names.

The libraries guess alpha for some layers and drop what they do not know. Here, every tensor of the file is
used as it was trained, or the file is refused.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.errors import ModelError

PARTS = {
    "lora_A.weight": "down",
    "lora_down.weight": "down",
    "lora.down.weight": "down",
    "lora_B.weight": "up",
    "lora_up.weight": "up",
    "lora.up.weight": "up",
    "alpha": "alpha",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
"""Ends of tensors' names in the formats of peft, kohya and diffusers."""
UNSUPPORTED = {
    "lora_B.bias": "biases",
    "dora_scale": "DoRA in kohya's format",
    "lora_mid.weight": "a Tucker decomposition",
    "hada_": "LoHa",
    "lokr_": "LoKr",
}
"""Parts of names of adapters that are not applied."""
PEFT_PREFIX, DIFFUSERS_PREFIX, KOHYA_PREFIX = "base_model.model.", "unet.", "lora_unet_"
TEXT_ENCODER_PREFIXES = ("text_encoder", "lora_te")
PEFT_CONFIG = "adapter_config.json"


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
    _check_kind(file, tensors)
    parts = _group(file, tensors, weight_shapes)
    alphas = _configured_alphas(file, parts, tensors, header)
    layers = {name: _layer(file, name, found, alphas.get(name)) for name, found in parts.items()}
    _check_shapes(file, layers, weight_shapes)
    return layers


def _check_kind(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise `ModelError` for adapters of the text encoder, and for methods that are not applied."""
    if not any(_split(name)[1] == "down" and not _of_text_encoder(name) for name in tensors):
        kinds = {kind for name in tensors for part, kind in UNSUPPORTED.items() if part in name}
        found = f"; it is {min(kinds)}" if kinds else ""
        raise ModelError(f"{file} has no LoRA layer for a UNet{found}; use another adapter.")
    for name in tensors:
        for part, kind in UNSUPPORTED.items():
            if part in name:
                raise ModelError(
                    f"{file} has {kind} ('{name}'), which cannot be applied here; use an adapter without it."
                )


def _of_text_encoder(name: str) -> bool:
    return name.removeprefix(PEFT_PREFIX).startswith(TEXT_ENCODER_PREFIXES)


def _split(name: str) -> tuple[str, str | None]:
    """The layer's name in the file, and the part that the tensor is; None for an unknown one."""
    for end, part in PARTS.items():
        for joint in (".", "_"):  # diffusers once wrote to_q_lora.down.weight
            if name.endswith(joint + end):
                return name.removesuffix(joint + end), part
    return name, None


def _group(
    file: Path, tensors: Mapping[str, torch.Tensor], weight_shapes: Mapping[str, torch.Size]
) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors by layer of the UNet and part."""
    names = {_spelling: name for name in weight_shapes for _spelling in _spellings(name)}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    text_encoder, foreign = set(), set()
    for key, tensor in tensors.items():
        layer, part = _split(key)
        if _of_text_encoder(key):
            text_encoder.add(layer)
            continue
        name = names.get(layer.removeprefix(PEFT_PREFIX).removeprefix(DIFFUSERS_PREFIX))
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
        raise ModelError(
            f"{file} has {len(foreign) + len(parts)} layers, of which the UNet of the base has {len(parts)}, "
            f"and not '{min(foreign)}'; use an adapter that was trained on this base."
        )
    if text_encoder:
        raise ModelError(
            f"{file} also has layers for the text encoder ({len(text_encoder)}), which would be left out; "
            "use an adapter of the UNet alone."
        )
    return parts


def _spellings(name: str) -> tuple[str, ...]:
    """How the formats spell the UNet's layer ``name``: with dots, kohya's way, and diffusers' old way."""
    old = name.replace(".attn1.", ".attn1.processor.").replace(".attn2.", ".attn2.processor.")
    return name, KOHYA_PREFIX + name.replace(".", "_"), old, old.removesuffix(".0")


def _configured_alphas(
    file: Path,
    parts: Mapping[str, Mapping[str, torch.Tensor]],
    tensors: Mapping[str, torch.Tensor],
    header: Mapping[str, str],
) -> dict[str, float]:
    """Alpha by layer from the file's header, or from the configuration that peft writes beside its files."""
    if "lora_adapter_metadata" in header:
        config = json.loads(header["lora_adapter_metadata"])
    elif any(name.startswith(PEFT_PREFIX) for name in tensors):
        if not (file.parent / PEFT_CONFIG).is_file():
            raise ModelError(
                f"{file} has peft's names, so its alpha is in {PEFT_CONFIG}, which is missing; "
                "put it beside the file."
            )
        config = json.loads((file.parent / PEFT_CONFIG).read_text(encoding="utf-8"))
    else:
        return {}
    config = {key.removeprefix(DIFFUSERS_PREFIX): value for key, value in config.items()}
    ranks = {name: len(found["down"]) for name, found in parts.items() if "down" in found}
    return {name: _configured_alpha(config, name, rank) for name, rank in ranks.items()}


def _configured_alpha(config: Mapping[str, Any], name: str, rank: int) -> float:
    """The layer's alpha. That of rsLoRA is multiplied, because it is divided only by the rank's root."""
    from peft.utils.other import get_pattern_key

    pattern = config.get("alpha_pattern") or {}
    alpha = pattern.get(get_pattern_key(pattern.keys(), name), config["lora_alpha"])
    return float(alpha) * (rank**0.5 if config.get("use_rslora") else 1)


def _layer(
    file: Path, name: str, parts: Mapping[str, torch.Tensor], configured_alpha: float | None
) -> LoraLayer:
    """A layer, with its own alpha, else the configured one, else its rank, as all formats have it."""
    missing = {"down", "up"} - set(parts)
    if missing:
        raise ModelError(f"{file} lacks the matrix '{min(missing)}' of layer {name}; use an intact file.")
    down, up = parts["down"].float(), parts["up"].float()
    alpha = len(down) if configured_alpha is None else configured_alpha
    if "alpha" in parts:
        alpha = _single_number(file, name, parts["alpha"])
    if not math.isfinite(alpha):
        raise ModelError(f"{file} has alpha = {alpha} for layer {name}; use an intact file.")
    if not all(value.isfinite().all() for value in parts.values()):
        raise ModelError(f"{file} has values in layer {name} that are not finite; use an intact file.")
    magnitude = parts["magnitude"].float() if "magnitude" in parts else None
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
