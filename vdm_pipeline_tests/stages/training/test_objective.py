"""The loss: what is predicted, from what, and with what weight."""

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
    """Keeps what it is given and answers with ``answer(noisy, steps)``."""

    def __init__(self, answer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.answer, self.seen = answer, []

    def __call__(
        self, noisy: torch.Tensor, steps: torch.Tensor, text: torch.Tensor, return_dict: bool
    ) -> tuple[torch.Tensor]:
        assert not return_dict
        self.seen.append((noisy, steps, text))
        return (self.answer(noisy, steps),)


def signal_and_noise(steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of latents and noise in what the UNet reads, from the formula of Stable Diffusion's schedule."""
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    kept = torch.from_numpy(kept).float()[steps][:, None, None, None]
    return kept.sqrt(), (1 - kept).sqrt()


def encoded(n: int = 16, copies: int = 1, std: float = 0.0) -> Encoded:
    mean = torch.randn(copies * n, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = torch.randn(3, 77, 96, generator=torch.Generator().manual_seed(1))
    return Encoded(n, mean, torch.full_like(mean, std), torch.arange(n) % 3, text)


def drawn(data: Encoded, training, step: int = 0) -> StepRandomness:
    return sample_step(data.n, data.latent, training, 1000, step)


def objective(training, kind: str = "epsilon") -> Objective:
    scheduler = load_component(BASE, "scheduler")
    scheduler.register_to_config(prediction_type=kind)
    return Objective(scheduler, training, CPU)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_loss_is_the_distance_from_noise_or_velocity(tiny, kind):
    training, data = tiny.training.model_copy(update={"batch_size": 16}), encoded()
    randomness = drawn(data, training)

    def half_a_unit_off(noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        alphas_cumprod, share = signal_and_noise(steps)
        noise = (noisy - alphas_cumprod * data.mean[randomness.rows]) / share
        return 0.5 + (
            noise if kind == "epsilon" else alphas_cumprod * noise - share * data.mean[randomness.rows]
        )

    losses = objective(training, kind).losses(FakeUNet(half_a_unit_off), data, randomness)
    torch.testing.assert_close(losses, torch.full((16,), 0.25), rtol=1e-3, atol=0)


def test_another_prediction_type_is_refused(tiny):
    with pytest.raises(ValueError, match="prediction type 'sample'"):
        objective(tiny.training, "sample")


def test_noisy_latents_are_diffusers_own(tiny):
    training, data = tiny.training.model_copy(update={"batch_size": 16}), encoded(std=0.3)
    randomness, unet = drawn(data, training), FakeUNet(lambda noisy, steps: noisy)
    objective(training).losses(unet, data, randomness)
    latents = data.mean[randomness.rows] + 0.3 * randomness.posterior
    expected = load_component(BASE, "scheduler").add_noise(latents, randomness.noise, randomness.timesteps)
    torch.testing.assert_close(unet.seen[0][0], expected)


def test_every_image_goes_with_its_own_caption(tiny):
    training, data = tiny.training.model_copy(update={"batch_size": 16}), encoded()
    randomness, unet = drawn(data, training), FakeUNet(lambda noisy, steps: noisy)
    objective(training).losses(unet, data, randomness)
    assert torch.equal(unet.seen[0][2], data.text[randomness.rows % 3])


def test_mirrored_images_have_the_latents_of_mirrored_pixels(tiny):
    training, data = (
        tiny.training.model_copy(update={"batch_size": 16, "random_flip": True}),
        encoded(copies=2),
    )
    randomness = drawn(data, training)
    assert 0 < int(randomness.mirrored.sum()) < 16
    unet = FakeUNet(lambda noisy, steps: noisy)
    objective(training).losses(unet, data, randomness)
    alphas_cumprod, share = signal_and_noise(randomness.timesteps)
    latents = (unet.seen[0][0] - share * randomness.noise) / alphas_cumprod
    expected = torch.stack(
        [data.mean[16 * int(m) + r] for m, r in zip(randomness.mirrored, randomness.rows, strict=True)]
    )
    near = randomness.timesteps < 800  # later, little of the latent is left to compare
    torch.testing.assert_close(latents[near], expected[near], rtol=1e-3, atol=1e-3)


def test_noise_offset_moves_whole_channels(tiny):
    training, data = tiny.training.model_copy(update={"batch_size": 16, "noise_offset": 0.5}), encoded()
    randomness, unet = drawn(data, training), FakeUNet(lambda noisy, steps: noisy)
    objective(training).losses(unet, data, randomness)
    plain = FakeUNet(lambda noisy, steps: noisy)
    objective(training.model_copy(update={"noise_offset": 0.0})).losses(plain, data, randomness)
    _, share = signal_and_noise(randomness.timesteps)
    moved = unet.seen[0][0] - plain.seen[0][0]
    torch.testing.assert_close(
        moved, (share * 0.5 * randomness.offset).expand_as(moved), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_diffusers_own(tiny, kind):
    """As its example scripts compute them, with `compute_snr`."""
    from diffusers.training_utils import compute_snr

    training = tiny.training.model_copy(update={"snr_gamma": 5.0})
    steps = torch.tensor([0, 10, 200, 500, 999])
    snr = compute_snr(load_component(BASE, "scheduler"), steps)
    expected = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0] / (
        snr if kind == "epsilon" else snr + 1
    )
    torch.testing.assert_close(objective(training, kind).weights(steps), expected, rtol=1e-5, atol=1e-7)
