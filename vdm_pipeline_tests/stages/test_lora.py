"""Training: data order, resume, the file that comes out, and what must not be."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.settings import Profile, Training
from vdm_pipeline.stages import lora
from vdm_pipeline.stages.diffusion import encode_images, encode_prompts, load_part
from vdm_pipeline.stages.lora import WEIGHTS, Cache, add_lora, diffusion_loss, epoch_rows, learning_rate, train_lora
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


class FakeUNet:
    """Keeps what it is given and answers with ``answer(noisy, steps)``."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.answer, self.seen = answer, []

    def __call__(self, noisy: torch.Tensor, steps: torch.Tensor, condition: torch.Tensor) -> SimpleNamespace:
        self.seen.append((noisy, steps, condition))
        return SimpleNamespace(sample=self.answer(noisy, steps))


def signal_and_noise(steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of latents and noise in what the UNet reads, from the formula of Stable Diffusion's schedule."""
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    kept = torch.from_numpy(kept).float()[steps][:, None, None, None]
    return kept.sqrt(), (1 - kept).sqrt()


def start(training: Training) -> dict[str, torch.Tensor]:
    """The adapter before the first step, under the names of the file."""
    named = add_lora(load_part(BASE, "unet"), training)
    return {f"unet.{name.replace('.default', '')}": value.detach() for name, value in named.items()}


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


def test_every_image_goes_with_its_own_caption(tiny):
    training, captions = tiny.training, [CAPTIONS[i] for i in (1, 0, 0, 1, 1, 0, 1, 0)]
    cache = Cache.build(BASE, IMAGES, captions, 64, 8, torch.device("cpu"), torch.float32)
    latents, _ = encode_images(load_part(BASE, "vae"), IMAGES, 64, batch=8)
    texts = encode_prompts(BASE, captions, torch.device("cpu"), torch.float32)
    unet, seen = FakeUNet(lambda noisy, steps: noisy), []
    for step in range(2):
        batch, generator = cache.batch(training, step)
        diffusion_loss(unet, load_part(BASE, "scheduler"), batch, cache.text, generator)
        rows = torch.cdist(batch.mean.flatten(1), latents.flatten(1)).argmin(1)
        torch.testing.assert_close(batch.mean, latents[rows])
        torch.testing.assert_close(unet.seen[step][2], texts[rows], atol=1e-4, rtol=1e-4)
        seen += rows.tolist()
    assert sorted(seen) == list(range(8))
    assert (texts[0] - texts[1]).abs().max() > 0.1


@pytest.mark.parametrize("flip", [False, True])
def test_noise_is_new_in_every_image_and_step(tiny, flip):
    training = tiny.training.model_copy(update={"flip": flip})
    nothing = torch.zeros(1, 4, 8, 8)
    cache = Cache(nothing, nothing, torch.tensor([0]), torch.zeros(1, 77, 96))
    unet = FakeUNet(lambda noisy, steps: noisy)
    for step in (0, 1, 2, 3, 3):
        batch, generator = cache.batch(training, step)
        diffusion_loss(unet, load_part(BASE, "scheduler"), batch, cache.text, generator)
    noise = torch.cat([noisy.flatten(1) for noisy, _, _ in unet.seen])
    assert torch.equal(noise[12:16], noise[16:])
    likeness = torch.nn.functional.normalize(noise[:16]) @ torch.nn.functional.normalize(noise[:16]).T
    assert (likeness - torch.eye(16)).abs().max() < 0.4
    assert len(torch.cat([steps for _, steps, _ in unet.seen[:4]]).unique()) > 10


def test_flip_mirrors_half_of_the_latents_and_nothing_else(tiny):
    mean, deviation = torch.rand(2, 40, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    cache = Cache(mean, deviation, torch.arange(40), torch.zeros(40, 77, 96))
    mirrored = 0
    for step in range(10):
        plain, _ = cache.batch(tiny.training, step)
        batch, _ = cache.batch(tiny.training.model_copy(update={"flip": True}), step)
        assert torch.equal(plain.caption, batch.caption)
        assert torch.equal(plain.mean, mean[plain.caption])
        for i, row in enumerate(batch.caption):
            axes = [] if torch.equal(batch.mean[i], mean[row]) else [-1]
            assert torch.equal(batch.mean[i], mean[row].flip(axes))
            assert torch.equal(batch.deviation[i], deviation[row].flip(axes))
            mirrored += len(axes)
    assert 10 < mirrored < 30


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_loss_is_the_distance_from_noise_or_velocity(tiny, kind):
    mean = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    cache = Cache(mean, torch.zeros_like(mean), torch.arange(16), torch.zeros(16, 77, 96))
    scheduler = load_part(BASE, "scheduler")
    scheduler.register_to_config(prediction_type=kind)
    batch, generator = cache.batch(tiny.training.model_copy(update={"batch": 16}), 0)

    def half_a_unit_off(noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        signal, share = signal_and_noise(steps)
        noise = (noisy - signal * batch.mean) / share
        return 0.5 + (noise if kind == "epsilon" else signal * noise - share * batch.mean)

    loss = diffusion_loss(FakeUNet(half_a_unit_off), scheduler, batch, cache.text, generator)
    assert float(loss) == pytest.approx(0.25, rel=1e-3)


def test_training_equals_a_plain_loop_with_the_rates_of_the_schedule(tiny, tmp_path):
    training = tiny.training.model_copy(update={"steps": 4, "warmup_steps": 2})
    unet, scheduler = load_part(BASE, "unet"), load_part(BASE, "scheduler")
    named = add_lora(unet, training)
    cache = Cache.build(BASE, IMAGES, CAPTIONS, 64, 32, torch.device("cpu"), torch.float32)
    optimizer = torch.optim.AdamW(named.values(), weight_decay=training.weight_decay)
    for step, share in enumerate([0.5, 1, 1, 0.55]):
        batch, generator = cache.batch(training, step)
        grads = torch.autograd.grad(diffusion_loss(unet, scheduler, batch, cache.text, generator), list(named.values()))
        norm = torch.cat([grad.flatten() for grad in grads]).norm()
        for value, grad in zip(named.values(), grads, strict=True):
            value.grad = grad * min(1.0, training.max_grad_norm / float(norm))
        optimizer.param_groups[0]["lr"] = share * training.learning_rate
        optimizer.step()
    trained = load_file(train(tiny, tmp_path / "run", training=training))
    assert len(trained) == len(named)
    for name, value in named.items():
        torch.testing.assert_close(trained[f"unet.{name.replace('.default', '')}"], value.detach(), atol=2e-5, rtol=1e-4)


def test_weight_decay_shrinks_what_has_no_gradient(tiny, tmp_path):
    training = tiny.training.model_copy(update={"steps": 1, "warmup_steps": 0, "learning_rate": 0.1, "weight_decay": 0.5})
    before, after = start(training), load_file(train(tiny, tmp_path / "run", training=training))
    # lora_B starts at zero, so the first step gives lora_A no gradient and only the decay moves it
    down = [name for name in before if "lora_A" in name]
    assert len(down) == len(before) / 2
    for name in down:
        torch.testing.assert_close(after[name], before[name] * 0.95)


@pytest.mark.parametrize("norm", [1e-10, 3e-11])
def test_gradients_are_clipped_to_the_norm(tiny, tmp_path, norm):
    training = tiny.training.model_copy(update={"steps": 1, "warmup_steps": 0, "max_grad_norm": norm})
    after = load_file(train(tiny, tmp_path / "run", training=training))
    moved = torch.cat([value.flatten() for name, value in after.items() if "lora_B" in name]).norm()
    # Adam's first update is lr * g / (|g| + 1e-8), so gradients far below 1e-8 show in the size of the step
    assert float(moved) == pytest.approx(training.learning_rate * norm / 1e-8, rel=0.02)


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
