"""The LoRA adapter of a UNet, in fp32, and its file in diffusers' format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.tensors import write_tensors
from vdm_pipeline.settings import Training


def add_lora(unet: Any, training: Training) -> dict[str, torch.Tensor]:
    """Attach a new adapter in fp32 to a base of any dtype; return its parameters by name.

    In half precision most updates of AdamW are smaller than the last bit of a weight and would be lost.
    Raises `PipelineError` if no layer of the UNet matches ``training.target_modules``.
    """
    from peft import LoraConfig

    torch.manual_seed(training.seed)
    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        target_modules=list(training.target_modules),
        init_lora_weights="gaussian",
        use_rslora=training.use_rslora,
        use_dora=training.use_dora,
    )
    try:
        unet.add_adapter(config, "default")
    except ValueError as error:
        raise PipelineError(f"training.target_modules: {error}") from None
    parameters = {name: value for name, value in unet.named_parameters() if "lora_" in name}
    for value in parameters.values():
        value.data = value.data.float()
        value.requires_grad_(True)
    return parameters


def save_adapter(unet: Any, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the adapter in diffusers' LoRA format, fp32, with ``metadata`` in the header."""
    tensors = {name: value.float() for name, value in lora_tensors(unet, "default").items()}
    write_tensors(path, tensors, {**lora_header(unet, "default"), **metadata})


def lora_tensors(unet: Any, adapter: str) -> dict[str, torch.Tensor]:
    """The adapter's matrices on the CPU, under the names that diffusers' ``load_lora_weights`` reads.

    These are peft's names. diffusers' ``convert_state_dict_to_diffusers`` renames only those of attention
    layers, and a file with both kinds of names would be read only in part.
    """
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(unet, adapter_name=adapter)
    return {f"unet.{name}": value.detach().cpu().contiguous() for name, value in tensors.items()}


def lora_header(unet: Any, adapter: str) -> dict[str, str]:
    """Safetensors header from which diffusers restores the LoRA configuration.

    Without it, diffusers assumes that alpha is the rank.
    """
    config = unet.peft_config[adapter]
    targets = sorted(config.target_modules)
    options = {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": targets}
    options |= {key: True for key in ("use_rslora", "use_dora") if getattr(config, key)}
    return {
        "format": "pt",
        "lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in options.items()}),
    }
