"""The options that an adapter was trained with: peft's `LoraConfig`, as JSON.

Every field is applied, cannot change an image, or is refused. A test compares the fields with those of peft.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation.adapter_names import DIFFUSERS_PREFIX

PEFT_CONFIG = "adapter_config.json"
HEADER_KEY = "lora_adapter_metadata"
"""Of the safetensors header, in which diffusers keeps the configuration."""

APPLIED = {"lora_alpha", "alpha_pattern", "use_rslora", "use_dora"}
CHECKED = {"peft_type", "bias", "init_lora_weights"}
"""Only some values keep the update ``alpha / rank * B A`` of the base's own weights."""
IGNORED = {
    # the matrices in the file show which layers have which rank
    *("r", "rank_pattern", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    # about training, or a note
    *("lora_dropout", "inference_mode", "runtime_config", "task_type", "auto_mapping", "peft_version"),
    *("base_model_name_or_path", "revision"),
    # about layers that a UNet does not have: Conv1D and tied embeddings
    *("fan_in_fan_out", "ensure_weight_tying"),
    # act only with init_lora_weights, use_qalora or megatron_config
    *("eva_config", "corda_config", "lora_ga_config", "loftq_config", "qalora_group_size", "megatron_core"),
}
"""Cannot change an image."""
NOT_APPLIED = {
    "alora_invocation_tokens": "aLoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "layer_replication": "replicated layers",
    "lora_bias": "biases",
    "megatron_config": "layers of Megatron",
    "modules_to_save": "whole modules",
    "monteclora_config": "MonteCLoRA",
    "target_parameters": "a LoRA of parameters",
    "trainable_token_indices": "trained tokens",
    "use_bdlora": "BD-LoRA",
    "use_qalora": "QALoRA",
    "velora_config": "VeLoRA",
}
"""Refused if set."""

KEEPS_BASE = {"gaussian", "eva", "orthogonal", "mica"}
"""Values of ``init_lora_weights`` that, like true and false, leave the base's weights as they are."""
CONVERTIBLE = ("pissa", "olora", "corda", "lora_ga")
"""They subtract the initial update from the base's weights; peft can save the difference as a plain LoRA."""


@dataclass(frozen=True)
class AdapterConfig:
    """Checked options of an adapter; ``source`` is where they are, for errors."""

    source: str
    options: Mapping[str, Any]

    def alpha(self, layer: str, rank: int) -> float:
        """The layer's alpha. That of rsLoRA is multiplied, because it is divided only by the rank's root."""
        from peft.utils.other import get_pattern_key

        pattern = self.options.get("alpha_pattern") or {}
        try:
            key = get_pattern_key(pattern.keys(), layer)
            alpha = pattern[key] if key in pattern else self.options["lora_alpha"]
            return float(alpha) * (rank**0.5 if self.options.get("use_rslora") else 1)
        except (AttributeError, KeyError, TypeError, ValueError, re.error):
            raise ModelError(
                f"{self.source} has no number as alpha of layer {layer}; "
                "correct lora_alpha and alpha_pattern there."
            ) from None


def read_config(file: Path, header: Mapping[str, str], required: bool) -> AdapterConfig | None:
    """The configuration in the file's header, or the one that peft writes beside its file.

    Raises `ModelError` if it is missing although ``required``, or has an option that is not applied.
    """
    path = file.parent / PEFT_CONFIG
    if HEADER_KEY in header:
        source, text = f"{file}, {HEADER_KEY} in its header,", header[HEADER_KEY]
    elif not required:
        return None
    elif path.is_file():
        source, text = str(path), path.read_text(encoding="utf-8")
    else:
        raise ModelError(
            f"{file} has peft's names, so its alpha is in {PEFT_CONFIG}, which is missing; "
            "put it beside the file."
        )
    config = AdapterConfig(source, _options(source, text))
    _check_options(config)
    return config


def _options(source: str, text: str) -> dict[str, Any]:
    """The UNet's options; diffusers keeps those of the text encoder beside them."""
    try:
        options = json.loads(text)
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise ModelError(f"{source} is not a JSON object; use an intact file.")
    of_unet = {key: value for key, value in options.items() if not key.startswith("text_encoder")}
    return {key.removeprefix(DIFFUSERS_PREFIX): value for key, value in of_unet.items()}


def _check_options(config: AdapterConfig) -> None:
    source, options = config.source, config.options
    for name, value in options.items():
        if value and name not in APPLIED | CHECKED | IGNORED:
            what = f" ({NOT_APPLIED[name]}), which cannot be applied" if name in NOT_APPLIED else ", unknown"
            raise ModelError(f"{source} sets {name}{what} here; use an adapter without it.")
    for name, supported in (("peft_type", "LORA"), ("bias", "none")):
        value = options.get(name) or supported
        if value != supported:
            raise ModelError(f"{source} has {name} = {value}; use an adapter with {name} = {supported}.")
    _check_initialization(source, options.get("init_lora_weights"))


def _check_initialization(source: str, value: Any) -> None:
    """Raise `ModelError` if the adapter was trained on other weights than those of the base."""
    name = str(value).lower()
    if value in (None, True, False) or name in KEEPS_BASE:
        return
    if name.startswith(CONVERTIBLE):
        fix = "convert it with path_initial_model_for_weight_conversion of peft's save_pretrained"
    else:
        fix = "use another adapter"
    raise ModelError(
        f"{source} has init_lora_weights = {value}, which changes the base's weights before training, "
        f"so the adapter does not fit the unchanged base; {fix}."
    )
