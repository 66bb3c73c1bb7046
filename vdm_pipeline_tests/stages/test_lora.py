"""Training: data order, resume, the file that comes out, and what must not be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages import lora
from vdm_pipeline.stages.diffusion import encode_images, encode_prompts, load_part
from vdm_pipeline.stages.lora import WEIGHTS, add_lora, epoch_rows, learning_rate, train_lora
from vdm_pipeline.stages.models import EMBEDDED
from vdm_pipeline.stages.phantom.film import render
from vdm_pipeline.stages.sampling import Adapter, load_pipeline

BASE = EMBEDDED / "sd"
IMAGES = render(3, np.arange(8), np.arange(8) % 2 == 1, 64)
CAPTIONS = ["healthy lungs on a chest X-ray", "pneumonia on a chest X-ray"] * 4


def train(profile: Profile, folder: Path, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    values = {"checkpoint_every": 2, "log_every": 2, "log": lambda line: None} | changes
    train_lora(
        base=BASE,
        images=IMAGES,
        captions=CAPTIONS,
        training=values.pop("training", profile.training),
        folder=folder,
        device=torch.device("cpu"),
        dtype=torch.float32,
        note={"data_version": "d"},
        **values,
    )
    return folder / WEIGHTS


def test_every_image_is_seen_once_an_epoch():
    rows = np.concatenate([epoch_rows(7, 3, seed=1, step=step) for step in range(14)])
    for epoch in range(6):
        assert sorted(rows[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert not np.array_equal(rows[:7], rows[7:14])
    assert not np.array_equal(epoch_rows(7, 3, 1, 0), epoch_rows(7, 3, 2, 0))


def test_batch_larger_than_the_data_is_whole():
    assert np.bincount(epoch_rows(3, 9, seed=0, step=2)).tolist() == [3, 3, 3]


def test_learning_rate_warms_up_and_falls(tiny):
    rates = [learning_rate(tiny.training, step) for step in range(6)]
    assert rates[0] == pytest.approx(tiny.training.learning_rate / 2)
    assert max(rates) == pytest.approx(tiny.training.learning_rate)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_interrupted_run_equals_uninterrupted(tiny, tmp_path):
    whole = load_file(train(tiny, tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("step 5"):
            raise Killed

    with pytest.raises(Killed):
        train(tiny, tmp_path / "cut", log=kill, log_every=1)
    assert (tmp_path / "cut/checkpoint.safetensors").exists()
    lines: list[str] = []
    resumed = load_file(train(tiny, tmp_path / "cut", log=lines.append))
    assert lines[0] == "going on from step 4 of 6"
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_log_has_no_step_twice_after_resume(tiny, tmp_path):
    def kill(line: str) -> None:
        if line.startswith("step 5"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "run", log=kill, log_every=1)
    train(tiny, tmp_path / "run", log_every=1)
    rows = (tmp_path / "run/training_log.csv").read_text().splitlines()
    assert rows[0] == "step,loss,lr,images_per_s"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3", "4", "5", "6"]


def test_adapter_loads_with_diffusers_and_keeps_alpha(tiny, tmp_path):
    training = tiny.training.model_copy(update={"alpha": 4.0, "rank": 2})
    path = train(tiny, tmp_path / "lora", training=training)
    adapters = [Adapter("lcm", EMBEDDED / "lcm_lora", 1.0), Adapter("x", path.parent, 1.0)]
    unet = load_pipeline(BASE, adapters, torch.device("cpu"), torch.float32).unet
    assert (unet.peft_config["x"].r, unet.peft_config["x"].lora_alpha) == (2, 4.0)
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    assert layer.scaling["x"] == 2.0
    with safe_open(path, "pt") as file:
        assert file.metadata()["data_version"] == "d"
        trained = file.get_tensor("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight")
    assert torch.equal(layer.lora_B["x"].weight, trained)
    assert trained.abs().sum() > 0


def test_only_the_adapter_is_trained_and_in_fp32(tiny):
    unet = load_part(BASE, "unet", torch.bfloat16)
    parameters = add_lora(unet, tiny.training)
    assert {value.dtype for value in parameters.values()} == {torch.float32}
    assert {name for name, value in unet.named_parameters() if value.requires_grad} == set(parameters)


def test_unknown_target_is_a_sentence(tiny):
    with pytest.raises(PipelineError, match=r"training\.target_modules"):
        add_lora(load_part(BASE, "unet"), tiny.training.model_copy(update={"target_modules": ("nowhere",)}))


def test_loss_that_is_not_finite_stops_the_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "diffusion_loss", lambda unet, *a: next(p for p in unet.parameters() if p.requires_grad).sum() * float("nan"))
    with pytest.raises(PipelineError, match=r"not finite at step 2; lower training\.learning_rate"):
        train(tiny, tmp_path / "nan")
    assert not (tmp_path / "nan" / WEIGHTS).exists()


def test_loss_falls_on_a_handful_of_images(tiny, tmp_path):
    training = tiny.training.model_copy(update={"steps": 60, "batch": 8, "learning_rate": 5e-3})
    train(tiny, tmp_path / "fit", training=training, log_every=20)
    losses = [float(row.split(",")[1]) for row in (tmp_path / "fit/training_log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]


def test_posterior_moments_are_those_of_the_vae():
    vae = load_part(BASE, "vae")
    mean, deviation = encode_images(vae, IMAGES, 64, batch=3)
    grey = torch.from_numpy(IMAGES).float()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1
    with torch.no_grad():
        posterior = vae.encode(grey).latent_dist
    torch.testing.assert_close(mean, posterior.mean * vae.config.scaling_factor, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(deviation, posterior.std * vae.config.scaling_factor, atol=1e-4, rtol=1e-3)


def test_prompt_that_would_be_cut_is_refused():
    with pytest.raises(ModelError, match="of at most 77; shorten it"):
        encode_prompts(BASE, ["lungs " * 80], torch.device("cpu"), torch.float32)


def test_folder_without_a_part_is_a_sentence(tmp_path):
    with pytest.raises(ModelError, match="lacks 'unet'"):
        load_part(tmp_path, "unet")
