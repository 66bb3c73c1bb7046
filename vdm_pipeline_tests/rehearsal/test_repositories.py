"""The rehearsal's repositories have the shapes and names of the published ones, and our adapters fit them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.generation.adapter_file import read_lora
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters, weight_shapes
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.training.adapter import add_lora
from vdm_pipeline_tests.rehearsal.configurations import UNET
from vdm_pipeline_tests.rehearsal.repositories import KOHYA, write_lcm_lora
from vdm_pipeline_tests.stages.generation.jobs import BASE

PUBLISHED_LCM_BYTES = 134_621_556
TRANSFORMERS = [
    *(f"down_blocks.{block}.attentions.{n}" for block in (0, 1, 2) for n in (0, 1)),
    "mid_block.attentions.0",
    *(f"up_blocks.{block}.attentions.{n}" for block in (1, 2, 3) for n in (0, 1, 2)),
]
"""The 16 transformers of Stable Diffusion's UNet."""


def test_adapter_has_the_tensors_of_a_lora_of_stable_diffusion():
    from diffusers import UNet2DConditionModel

    training = load_profile("sd15").training.model_copy(update={"rank": 16, "alpha": 16.0})
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNET).requires_grad_(False)
        add_lora(unet, training)
        tensors = lora_tensors_of(unet)
    assert sum(value.numel() for value in unet.parameters() if not value.requires_grad) == 859_520_964
    layers = [
        f"{transformer}.transformer_blocks.0.{attention}"
        for transformer in TRANSFORMERS
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
    """Names and shapes, without allocating memory."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(unet, adapter_name="default")


def test_lcm_lora_has_the_published_size(tmp_path):
    from diffusers import UNet2DConditionModel

    file = write_lcm_lora(tmp_path) / LORA_WEIGHTS
    assert abs(file.stat().st_size - PUBLISHED_LCM_BYTES) < 100
    with torch.device("meta"):
        shapes = weight_shapes(UNet2DConditionModel.from_config(UNET))
    assert len(read_lora(file, shapes)) == 278
    assert sum(value.numel() for name, value in load_file(file).items() if "alpha" not in name) == 67_252_224


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_adapter_with_kohyas_names_equals_the_one_with_pefts(tmp_path, weight):
    """LCM-LoRA is published in half precision, with one alpha per layer, and underscores instead of dots."""
    config = json.loads((BASE / "unet/config.json").read_text())
    kohya = write_lcm_lora(tmp_path / "kohya", config, rank=4) / LORA_WEIGHTS
    state = load_file(kohya)
    for name in [name for name in state if name.endswith(".alpha")]:
        state[name] = torch.tensor(2.0).half()  # of rank 4: half of the update
    save_file(state, kohya)
    peft = write_with_pefts_names(state, tmp_path / "peft")
    fused_kohya, fused_peft = fused(kohya, weight), fused(peft, weight)
    base = fused(None, weight)
    changed = [name for name in base if not torch.equal(base[name], fused_peft[name])]
    assert len(changed) == len([name for name in state if name.endswith(".alpha")])
    for name in base:
        torch.testing.assert_close(fused_kohya[name], fused_peft[name], atol=1e-6, rtol=0)


def fused(file: Path | None, weight: float) -> dict[str, torch.Tensor]:
    """Weights of the embedded UNet with the fused adapter."""
    adapters = [Adapter("lcm", file, weight)] if file else []
    unet = load_unet_with_adapters(BASE, adapters)
    fuse(unet, adapters)
    return unet.state_dict()


def write_with_pefts_names(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """Write the same adapter with peft's names, with alpha multiplied into the matrices."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(BASE / "unet")
    names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in unet.named_modules()}
    tensors = {}
    for name, value in state.items():
        layer, _, matrix = name.partition(".")
        if matrix != "alpha":
            name = {f"{old}.weight": f"{new}.weight" for new, old in KOHYA.items()}[matrix]
            tensors[f"unet.{names[layer]}.{name}"] = value.float() * (0.5 if "lora_up" in matrix else 1)
    folder.mkdir()
    save_file(tensors, folder / LORA_WEIGHTS)
    return folder / LORA_WEIGHTS
