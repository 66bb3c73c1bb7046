"""Adapters: fused equals unfused, and an adapter that changes nothing is an error."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline_tests.stages.generation.jobs import BASE, LCM, arm_of, make_job, make_sampler
from vdm_pipeline_tests.stages.training.jobs import trained

LATENT = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "kind",
    [{}, {"use_dora": True}, {"target_modules": ("to_q", "conv1", "ff.net.2")}],
    ids=["LoRA", "DoRA", "all"],
)
def test_fused_equals_unfused_and_leaves_plain_layers(tiny, tmp_path, kind):
    training = {"rank": 2, "alpha": 5.0, "max_train_steps": 4, "learning_rate": 0.05, **kind}
    path = trained(tiny, tmp_path / "run", training=training)
    adapters = [Adapter("lora", path.parent, 0.7), LCM]
    unet = load_unet_with_adapters(BASE, adapters)
    with torch.inference_mode():
        before = unet(LATENT, 500, TEXT, return_dict=False)[0]
        fuse(unet, adapters)
        after = unet(LATENT, 500, TEXT, return_dict=False)[0]
        base = load_component(BASE, "unet")(LATENT, 500, TEXT, return_dict=False)[0]
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    assert (after - base).abs().max() > 1e-2
    assert not [name for name, _ in unet.named_modules() if "lora" in name or "base_layer" in name]


def test_without_adapters_the_unet_is_that_of_the_base(tiny):
    arm = arm_of(tiny).model_copy(update={"adapters": (), "scheduler": "dpm"})
    sampler, base = make_sampler(make_job(tiny, BASE, arm=arm)), load_component(BASE, "unet")
    with torch.inference_mode():
        torch.testing.assert_close(
            sampler.unet(LATENT, 9, TEXT).sample, base(LATENT, 9, TEXT).sample, atol=1e-5, rtol=0
        )


def test_adapter_that_changes_nothing_is_an_error(tmp_path):
    tensors = load_file(LCM.path / LORA_WEIGHTS)
    inactive = {key: value * 0 if "lora_B" in key else value for key, value in tensors.items()}
    save_file(inactive, tmp_path / LORA_WEIGHTS)
    with pytest.raises(ModelError, match=r"'lora' .* is not active"):
        load_unet_with_adapters(BASE, [LCM, Adapter("lora", tmp_path, 1.0)])


def test_both_adapters_are_active_with_their_weights():
    unet = load_unet_with_adapters(BASE, [LCM, Adapter("lora", LCM.path, 0.5)])
    assert set(unet.active_adapters()) == {"lcm", "lora"}
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    assert layer.scaling["lora"] == pytest.approx(layer.scaling["lcm"] / 2)
