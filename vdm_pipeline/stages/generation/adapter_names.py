"""Names of tensors in LoRA files: the layer of the UNet that each belongs to, and the part of the layer."""

import re
from collections.abc import Collection
from pathlib import Path

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
    r"(lora_B|lora_up|lora\.up)(\.\w+)?\.bias$": "biases",
    r"dora_scale$": "DoRA in kohya's format",
    r"lora_mid\.": "a Tucker decomposition",
    r"lora_embedding_[AB]": "a LoRA of an embedding",
    r"\.lora_E(\.|$)": "AdaLoRA",
    r"lora_diag(\.|$)": "KaSA",
    r"lora_velora_": "VeLoRA",
    r"hada_": "LoHa",
    r"lokr_": "LoKr",
    r"b?oft_": "OFT or BOFT",
    r"vera_lambda_": "VeRA",
    r"ia3_|\.on_input$": "(IA)³",
    r"\.[ab][12]\.weight$": "GLoRA",
    r"\.diff(_b)?$": "whole weights",
    r"\.[wb]_norm$": "whole norms",
}
"""Patterns in tensors' names of what is not applied."""
PEFT_PREFIX, DIFFUSERS_PREFIX, KOHYA_PREFIX = "base_model.model.", "unet.", "lora_unet_"
COMFYUI_PREFIXES = "model.diffusion_model.", "diffusion_model."
TEXT_ENCODER = re.compile(
    r"text_model|text_encoder|cond_stage_model|\blora_te|encoder[._]layers[._]\d+[._](self_attn|mlp)"
)
ADAPTER_NAME = re.compile(r"(?<=\.)(lora_A|lora_B|lora_magnitude_vector)\.\w+\.weight$")
"""As in ``lora_A.default.weight`` of a model's own state dict; `get_peft_model_state_dict` drops the name."""


def check_kind(file: Path, names: Collection[str]) -> None:
    """Raise `ModelError` for a file without a LoRA of a UNet, and for methods that are not applied."""
    kinds = {kind: name for name in names for part, kind in UNSUPPORTED.items() if re.search(part, name)}
    if not any(split_name(name)[1] == "down" and not is_of_text_encoder(name) for name in names):
        found = f"; it is {min(kinds)}" if kinds else ""
        if any(map(is_of_text_encoder, names)):
            found = ", only layers for the text encoder"
        raise ModelError(f"{file} has no LoRA layer for a UNet{found}; use another adapter.")
    if kinds:
        kind = min(kinds)
        raise ModelError(
            f"{file} has {kind} ('{kinds[kind]}'), which cannot be applied here; use an adapter without it."
        )


def is_of_text_encoder(name: str) -> bool:
    """Whether a tensor is of a CLIP text encoder, under the name of any format."""
    return bool(TEXT_ENCODER.search(name))


def is_configured(name: str) -> bool:
    """Whether peft wrote the tensor, which keeps alpha in a file of its own."""
    return name.startswith(PEFT_PREFIX) or bool(ADAPTER_NAME.search(name))


def split_name(name: str) -> tuple[str, str | None]:
    """The layer's name in the file, and the part that the tensor is; None for an unknown one."""
    name = ADAPTER_NAME.sub(r"\1.weight", name)
    for end, part in PARTS.items():
        for joint in (".", "_"):  # diffusers once wrote to_q_lora.down.weight
            if name.endswith(joint + end):
                return name.removesuffix(joint + end), part
    return name, None


def without_prefix(layer: str) -> str:
    """The layer's name without the formats' prefixes; kohya's is part of its spelling."""
    for prefix in (PEFT_PREFIX, *COMFYUI_PREFIXES, DIFFUSERS_PREFIX):
        layer = layer.removeprefix(prefix)
    return layer


def spellings(name: str) -> tuple[str, ...]:
    """How the formats spell the UNet's layer ``name``: with dots, kohya's way, and diffusers' old way."""
    old = name.replace(".attn1.", ".attn1.processor.").replace(".attn2.", ".attn2.processor.")
    return name, KOHYA_PREFIX + name.replace(".", "_"), old, old.removesuffix(".0")
