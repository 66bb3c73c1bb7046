"""The loss: what the UNet reads, what it must predict, and the weight of each image."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.training.encoding import Encoded
from vdm_pipeline.stages.training.objective import Objective
from vdm_pipeline.stages.training.randomness import StepRandomness, sample_step
from vdm_pipeline_tests.stages.training.jobs import BASE

CPU = torch.device("cpu")


class FakeUNet:
    """Keeps its inputs and returns ``predict(noisy, timesteps)``."""

    def __init__(self, predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.predict, self.inputs = predict, []

    def __call__(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, return_dict: bool
    ) -> tuple[torch.Tensor]:
        assert not return_dict
        self.inputs.append((noisy, timesteps, text))
        return (self.predict(noisy, timesteps),)


def echo() -> FakeUNet:
    return FakeUNet(lambda noisy, timesteps: noisy)


def noise_schedule(timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of latents and noise in the UNet's input, from the formula of Stable Diffusion's schedule."""
    alphas_cumprod = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    alpha = torch.from_numpy(alphas_cumprod).float()[timesteps][:, None, None, None]
    return alpha.sqrt(), (1 - alpha).sqrt()


def encoded(n: int = 16, copies: int = 1, std: float = 0.0) -> Encoded:
    mean = torch.randn(copies * n, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = torch.randn(3, 77, 96, generator=torch.Generator().manual_seed(1))
    return Encoded(n, mean, torch.full_like(mean, std), torch.arange(n) % 3, text)


def sample(data: Encoded, training, step: int = 0) -> StepRandomness:
    return sample_step(data.n, data.latent_shape, training, 1000, step)


def objective(training, prediction_type: str = "epsilon") -> Objective:
    scheduler = load_component(BASE, "scheduler")
    scheduler.register_to_config(prediction_type=prediction_type)
    return Objective(scheduler, training, CPU)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_loss_is_the_distance_from_noise_or_velocity(tiny, prediction_type):
    training, data = tiny.training.model_copy(update={"batch_size": 16}), encoded()
    randomness = sample(data, training)
    latents = data.mean[randomness.rows]

    def half_a_unit_off(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha, sigma = noise_schedule(timesteps)
        noise = (noisy - alpha * latents) / sigma
        return 0.5 + (noise if prediction_type == "epsilon" else alpha * noise - sigma * latents)

    losses = objective(training, prediction_type).losses(FakeUNet(half_a_unit_off), data, randomness)
    torch.testing.assert_close(losses, torch.full((16,), 0.25), rtol=1e-3, atol=0)


def test_other_prediction_types_are_an_error(tiny):
    with pytest.raises(ValueError, match="prediction type 'sample'"):
        objective(tiny.training, "sample")


def test_noisy_latents_are_those_of_diffusers(tiny):
    training, data = tiny.training.model_copy(update={"batch_size": 16}), encoded(std=0.3)
    randomness, unet = sample(data, training), echo()
    objective(training).losses(unet, data, randomness)
    latents = data.mean[randomness.rows] + 0.3 * randomness.posterior
    scheduler = load_component(BASE, "scheduler")
    expected = scheduler.add_noise(latents, randomness.noise, randomness.timesteps)
    torch.testing.assert_close(unet.inputs[0][0], expected)


def test_every_image_has_its_own_caption(tiny):
    training, data = tiny.training.model_copy(update={"batch_size": 16}), encoded()
    randomness, unet = sample(data, training), echo()
    objective(training).losses(unet, data, randomness)
    assert torch.equal(unet.inputs[0][2], data.text[randomness.rows % 3])


def test_mirrored_images_have_the_latents_of_mirrored_pixels(tiny):
    training = tiny.training.model_copy(update={"batch_size": 16, "random_flip": True})
    data = encoded(copies=2)
    randomness, unet = sample(data, training), echo()
    assert 0 < int(randomness.mirrored.sum()) < 16
    objective(training).losses(unet, data, randomness)
    alpha, sigma = noise_schedule(randomness.timesteps)
    latents = (unet.inputs[0][0] - sigma * randomness.noise) / alpha
    expected = torch.stack(
        [data.mean[16 * int(m) + r] for m, r in zip(randomness.mirrored, randomness.rows, strict=True)]
    )
    early = randomness.timesteps < 800  # later, the latent is too weak to compare
    torch.testing.assert_close(latents[early], expected[early], rtol=1e-3, atol=1e-3)


def test_noise_offset_moves_whole_channels(tiny):
    training, data = tiny.training.model_copy(update={"batch_size": 16, "noise_offset": 0.5}), encoded()
    randomness, unet, plain = sample(data, training), echo(), echo()
    objective(training).losses(unet, data, randomness)
    objective(training.model_copy(update={"noise_offset": 0.0})).losses(plain, data, randomness)
    _, sigma = noise_schedule(randomness.timesteps)
    moved = unet.inputs[0][0] - plain.inputs[0][0]
    expected = (sigma * 0.5 * randomness.offset).expand_as(moved)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_diffusers(tiny, prediction_type):
    """As its example scripts compute them, with `compute_snr`."""
    from diffusers.training_utils import compute_snr

    training = tiny.training.model_copy(update={"snr_gamma": 5.0})
    timesteps = torch.tensor([0, 10, 200, 500, 999])
    snr = compute_snr(load_component(BASE, "scheduler"), timesteps)
    clamped = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    expected = clamped / (snr if prediction_type == "epsilon" else snr + 1)
    weights = objective(training, prediction_type).weights(timesteps)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-7)
