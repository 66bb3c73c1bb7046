"""One step: AdamW and clipping as in torch, and micro-batches that change nothing."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.training import session
from vdm_pipeline.stages.training.adapter import add_lora
from vdm_pipeline.stages.training.encoding import Encoder
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.randomness import sample_step
from vdm_pipeline_tests.stages.training.jobs import BASE, CAPTIONS, IMAGES, silent, trained
from vdm_pipeline_tests.stages.training.weights import initial_adapter, max_difference, named_as_in_file

CPU = torch.device("cpu")


def test_training_equals_a_plain_loop_with_the_rates_of_the_schedule(tiny, tmp_path):
    changes = {"max_train_steps": 4, "lr_warmup_steps": 2}
    training = tiny.training.model_copy(update=changes)
    unet = load_component(BASE, "unet")
    parameters = add_lora(unet, training)
    encoder = Encoder(BASE, tmp_path / "cache", 64, CPU, torch.float32)
    data = encoder.encode(IMAGES, CAPTIONS, flip=False, log=silent)
    objective = Objective(load_component(BASE, "scheduler"), training, CPU)
    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=training.weight_decay)
    for step, factor in enumerate([0.5, 1, 1, 0.1]):
        loss = objective.losses(unet, data, sample_step(8, data.latent_shape, training, 1000, step)).mean()
        grads = torch.autograd.grad(loss, list(parameters.values()))
        norm = torch.cat([grad.flatten() for grad in grads]).norm()
        for value, grad in zip(parameters.values(), grads, strict=True):
            value.grad = grad * min(1.0, training.max_grad_norm / float(norm))
        optimizer.param_groups[0]["lr"] = factor * training.learning_rate
        optimizer.step()
    plain = named_as_in_file(parameters)
    ours = load_file(trained(tiny, tmp_path / "run", training=changes))
    assert ours.keys() == plain.keys()
    assert max_difference(ours, plain) < 1e-2 * max_difference(plain, initial_adapter(training))


def test_weight_decay_shrinks_weights_without_gradient(tiny, tmp_path):
    changes = {"max_train_steps": 1, "lr_warmup_steps": 0, "learning_rate": 0.1, "weight_decay": 0.5}
    before = initial_adapter(tiny.training.model_copy(update=changes))
    after = load_file(trained(tiny, tmp_path / "run", training=changes))
    # lora_B starts at zero, so the first step gives lora_A no gradient and only the decay moves it
    lora_a = [name for name in before if "lora_A" in name]
    assert len(lora_a) == len(before) / 2
    for name in lora_a:
        torch.testing.assert_close(after[name], before[name] * 0.95)


@pytest.mark.parametrize("norm", [1e-10, 3e-11])
def test_gradients_are_clipped_to_the_norm(tiny, tmp_path, norm):
    changes = {"max_train_steps": 1, "lr_warmup_steps": 0, "max_grad_norm": norm}
    after = load_file(trained(tiny, tmp_path / "run", training=changes))
    moved = torch.cat([value.flatten() for name, value in after.items() if "lora_B" in name]).norm()
    # Adam's first update is lr * g / (|g| + 1e-8), so gradients far below 1e-8 show in the size of the step
    assert float(moved) == pytest.approx(tiny.training.learning_rate * norm / 1e-8, rel=0.02)


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_change_nothing(tiny, tmp_path, whole, micro):
    at_once = load_file(whole)
    parts = load_file(trained(tiny, tmp_path / "parts", execution={"micro_batch_size": micro}))
    moved = max_difference(at_once, initial_adapter(tiny.training))
    assert max_difference(at_once, parts) < 1e-2 * moved


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(tiny, tmp_path, whole, monkeypatch):
    at_once = load_file(whole)
    losses, lines = Objective.losses, []

    def only_one_fits(self, unet, data, randomness):
        if len(randomness.rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(self, unet, data, randomness)

    monkeypatch.setattr(Objective, "losses", only_one_fits)
    halved = load_file(trained(tiny, tmp_path / "small", log=lines.append))
    out_of_memory = [line for line in lines if line.startswith("out of memory")]
    assert [int(line.split()[-2]) for line in out_of_memory] == [2, 1]
    assert max_difference(at_once, halved) < 1e-2 * max_difference(at_once, initial_adapter(tiny.training))


def test_memory_too_small_for_one_image_is_an_error(tiny, tmp_path, monkeypatch):
    def none_fits(self, unet, data, randomness):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Objective, "losses", none_fits)
    with pytest.raises(PipelineError, match=r"memory; .*execution\.micro_batch_size"):
        trained(tiny, tmp_path / "run")


def test_only_the_adapter_is_trained_and_in_fp32(tiny):
    unet = load_component(BASE, "unet", torch.bfloat16)
    parameters = add_lora(unet, tiny.training)
    assert {value.dtype for value in parameters.values()} == {torch.float32}
    assert {name for name, value in unet.named_parameters() if value.requires_grad} == set(parameters)


def test_small_updates_are_not_lost_on_a_half_precision_base(tiny, tmp_path, monkeypatch):
    """With bf16 weights most updates of 1e-4 vanish; fp32 ones all move."""
    monkeypatch.setattr(session, "pick_dtype", lambda device: torch.bfloat16)
    # a CPU that emulates bf16 takes minutes for the matmul
    monkeypatch.setattr(session, "peak_flops", lambda device, dtype: 1e9)
    changes = {"max_train_steps": 2, "lr_warmup_steps": 0, "learning_rate": 1e-5}
    before = initial_adapter(tiny.training.model_copy(update=changes))
    after = load_file(trained(tiny, tmp_path / "run", training=changes))
    moved = torch.cat([(after[name] != before[name]).flatten() for name in before if "lora_B" in name])
    assert moved.float().mean() > 0.99


def test_gradient_checkpointing_changes_nothing(tiny, tmp_path, whole, monkeypatch):
    plain = load_file(whole)
    calls, enable = [], UNet2DConditionModel.enable_gradient_checkpointing

    def counted(unet):
        calls.append(unet)
        enable(unet)

    monkeypatch.setattr(UNet2DConditionModel, "enable_gradient_checkpointing", counted)
    saved = load_file(trained(tiny, tmp_path / "saved", execution={"gradient_checkpointing": True}))
    assert len(calls) == 1
    assert max_difference(plain, saved) < 1e-3 * max_difference(plain, initial_adapter(tiny.training))


def test_unknown_target_module_is_an_error(tiny):
    with pytest.raises(PipelineError, match=r"training\.target_modules"):
        add_lora(
            load_component(BASE, "unet"), tiny.training.model_copy(update={"target_modules": ("nowhere",)})
        )
