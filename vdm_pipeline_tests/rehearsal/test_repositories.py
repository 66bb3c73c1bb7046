"""The repositories of the rehearsal have the published ones' shapes and names, and our adapters fit them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.generation.adapters import count_unet_layers, fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.training.adapter import add_lora
from vdm_pipeline_tests.rehearsal.repositories import KOHYA, UNET, write_lcm_lora
from vdm_pipeline_tests.stages.generation.jobs import BASE

PUBLISHED_LCM_BYTES = 134_621_556
TRANSFORMERS = [
    *(f"down_blocks.{block}.attentions.{n}" for block in (0, 1, 2) for n in (0, 1)),
    "mid_block.attentions.0",
    *(f"up_blocks.{block}.attentions.{n}" for block in (1, 2, 3) for n in (0, 1, 2)),
]
"""The 16 transformers of Stable Diffusion's UNet."""


def test_our_adapter_has_the_tensors_of_a_lora_of_stable_diffusion():
    from diffusers import UNet2DConditionModel

    training = load_profile("sd15").training.model_copy(update={"rank": 16, "alpha": 16.0})
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNET).requires_grad_(False)
        add_lora(unet, training)
        tensors = lora_tensors_of(unet)
    assert sum(value.numel() for value in unet.parameters() if not value.requires_grad) == 859_520_964
    layers = [
        f"{place}.transformer_blocks.0.{attention}"
        for place in TRANSFORMERS
        for attention in ("attn1", "attn2")
    ]
    expected = {
        f"{layer}.{name}.{matrix}.weight"
        for layer in layers
        for name in ("to_q", "to_k", "to_v", "to_out.0")
        for matrix in KOHYA
    }
    assert set(tensors) == expected
    assert len(tensors) == 256
    assert sum(value.numel() for value in tensors.values()) == 3_188_736


def lora_tensors_of(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Names and shapes, without memory."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(unet, adapter_name="default")


def test_lcm_lora_has_the_size_of_the_published_one(tmp_path):
    file = write_lcm_lora(tmp_path) / LORA_WEIGHTS
    assert abs(file.stat().st_size - PUBLISHED_LCM_BYTES) < 100
    assert count_unet_layers(file) == 278
    assert sum(value.numel() for name, value in load_file(file).items() if "alpha" not in name) == 67_252_224


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_an_adapter_in_kohyas_names_acts_like_the_same_in_pefts(tmp_path, weight):
    """As LCM-LoRA is published: half precision, an alpha a layer, dots as underscores."""
    config = json.loads((BASE / "unet/config.json").read_text())
    kohya = write_lcm_lora(tmp_path / "kohya", config, rank=4) / LORA_WEIGHTS
    state = load_file(kohya)
    for name in [name for name in state if name.endswith(".alpha")]:
        state[name] = torch.tensor(2.0).half()  # of rank 4: half of the update
    save_file(state, kohya)
    ours, theirs = (fused(path, weight) for path in (kohya, in_pefts_names(state, tmp_path / "peft")))
    base = fused(None, weight)
    changed = [name for name in base if not torch.equal(base[name], theirs[name])]
    assert len(changed) == count_unet_layers(kohya)
    for name in base:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)


def fused(file: Path | None, weight: float) -> dict[str, torch.Tensor]:
    """Weights of the embedded UNet with the adapter in them."""
    adapters = [Adapter("lcm", file, weight)] if file else []
    unet = load_unet_with_adapters(BASE, adapters)
    fuse(unet, adapters)
    return unet.state_dict()


def in_pefts_names(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """The same adapter with peft's names, alpha in the matrices."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(BASE / "unet")
    names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in unet.named_modules()}
    tensors = {}
    for name, value in state.items():
        layer, _, matrix = name.partition(".")
        if matrix != "alpha":
            ours = {f"{old}.weight": f"{new}.weight" for new, old in KOHYA.items()}[matrix]
            tensors[f"unet.{names[layer]}.{ours}"] = value.float() * (0.5 if "lora_up" in matrix else 1)
    folder.mkdir()
    save_file(tensors, folder / LORA_WEIGHTS)
    return folder / LORA_WEIGHTS
