"""The adapter's file: diffusers and peft read it, and give the same predictions as the training process."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vdm_pipeline.stages.generation.adapters import load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.training import loop
from vdm_pipeline_tests.stages.training.jobs import BASE, log_rows, trained

KINDS = [{}, {"use_rslora": True}, {"use_dora": True}, {"target_modules": ("to_q", "conv1", "ff.net.2")}]
LATENT = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(1))


def predict(unet) -> np.ndarray:
    with torch.no_grad():
        return unet(LATENT, torch.tensor([10, 500]), TEXT, return_dict=False)[0].numpy()


@pytest.fixture
def in_process(monkeypatch) -> list:
    """What the UNet predicts at the end of a training, in the process that trained it."""
    predictions, write_results = [], loop.write_results

    def predict_too(session):
        write_results(session)
        predictions.append(predict(session.unet.eval()))

    monkeypatch.setattr(loop, "write_results", predict_too)
    return predictions


@pytest.mark.parametrize("kind", KINDS, ids=["LoRA", "rsLoRA", "DoRA", "convolutions"])
def test_diffusers_and_peft_read_the_trained_adapter(tiny, tmp_path, in_process, kind):
    """Rank and alpha differ, so a lost scale would show."""
    changes = {"rank": 2, "alpha": 5.0, "max_train_steps": 4, "learning_rate": 0.05, **kind}
    path = trained(tiny, tmp_path / "run", training=changes)
    by_us = load_unet_with_adapters(BASE, [Adapter("ours", path.parent, 1.0)])
    np.testing.assert_allclose(predict(by_us), in_process[0], atol=2e-4)

    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(BASE, safety_checker=None)
    pipeline.load_lora_weights(path.parent)
    np.testing.assert_allclose(predict(pipeline.unet), in_process[0], atol=2e-4)

    from peft import LoraConfig, set_peft_model_state_dict

    with safe_open(path, "pt") as file:
        options = json.loads(file.metadata()["lora_adapter_metadata"])
    by_peft = load_component(BASE, "unet")
    by_peft.add_adapter(LoraConfig(**{key.removeprefix("unet."): value for key, value in options.items()}))
    weights = {name.removeprefix("unet."): value for name, value in load_file(path).items()}
    result = set_peft_model_state_dict(by_peft, weights)
    assert not result.unexpected_keys
    np.testing.assert_allclose(predict(by_peft), in_process[0], atol=2e-4)
    assert np.abs(predict(load_component(BASE, "unet")) - in_process[0]).max() > 1e-2


def test_adapter_mixes_with_lcm_and_its_header_has_the_metadata(tiny, tmp_path):
    path = trained(tiny, tmp_path / "lora", training={"alpha": 4.0, "rank": 2})
    adapters = [Adapter("lcm", EMBEDDED / "lcm_lora", 1.0), Adapter("x", path.parent, 1.0)]
    unet = load_unet_with_adapters(BASE, adapters)
    assert (unet.peft_config["x"].r, unet.peft_config["x"].lora_alpha) == (2, 4.0)
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    assert layer.scaling["x"] == 2.0
    with safe_open(path, "pt") as file:
        assert file.metadata()["data_version"] == "d"
        matrix = file.get_tensor(
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight"
        )
    assert torch.equal(layer.lora_B["x"].weight, matrix)
    assert matrix.abs().sum() > 0


def test_loss_falls_on_a_handful_of_images(tiny, tmp_path):
    path = trained(
        tiny,
        tmp_path / "fit",
        training={"max_train_steps": 30, "batch_size": 8, "learning_rate": 5e-3},
        execution={"log_every": 10, "checkpoint_every": 30, "validate_every": 10},
    )
    rows = log_rows(path.parent / "training_log.csv")
    for column in ("loss", "validation_loss"):
        assert float(rows[-1][column]) < float(rows[0][column])
