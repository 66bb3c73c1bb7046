"""A step's random numbers: a function of (seed, step), whole epochs, independent noise, any split."""

import numpy as np
import torch

from vdm_pipeline.stages.training.randomness import epoch_rows, fixed_randomness, sample_step

LATENT_SHAPE = (4, 8, 8)


def test_every_image_is_seen_once_per_epoch():
    rows = np.concatenate([epoch_rows(7, 3, seed=1, step=step) for step in range(14)])
    for epoch in range(6):
        assert sorted(rows[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert not np.array_equal(rows[:7], rows[7:14])
    assert not np.array_equal(epoch_rows(7, 3, 1, 0), epoch_rows(7, 3, 2, 0))


def test_batch_larger_than_the_data_is_complete():
    assert np.bincount(epoch_rows(3, 9, seed=0, step=2)).tolist() == [3, 3, 3]


def test_any_step_is_sampled_without_those_before(tiny):
    in_order = [sample_step(8, LATENT_SHAPE, tiny.training, 1000, step) for step in range(5)]
    alone = sample_step(8, LATENT_SHAPE, tiny.training, 1000, 4)
    for name in alone.__dataclass_fields__:
        assert torch.equal(getattr(alone, name), getattr(in_order[4], name)), name


def test_seeds_and_steps_share_no_noise(tiny):
    noise = []
    for seed in range(3):
        training = tiny.training.model_copy(update={"seed": seed})
        for step in range(4):
            randomness = sample_step(8, LATENT_SHAPE, training, 1000, step)
            noise += [randomness.noise.flatten(1), randomness.posterior.flatten(1)]
    noise = torch.cat(noise)
    directions = torch.nn.functional.normalize(noise)
    assert (directions @ directions.T - torch.eye(len(noise))).abs().max() < 0.4
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.std()) - 1) < 0.02


def test_parts_and_shares_join_to_the_whole(tiny):
    training = tiny.training.model_copy(update={"batch_size": 7})
    whole = sample_step(8, LATENT_SHAPE, training, 1000, 3)
    for parts in (
        [whole.part(0, 3), whole.part(3, 7)],
        [whole.share(index, 3) for index in range(3)],
        [whole.share(index, 8) for index in range(8)],
    ):
        for name in whole.__dataclass_fields__:
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name


def test_timesteps_cover_the_schedule_and_half_is_mirrored(tiny):
    training = tiny.training.model_copy(update={"batch_size": 500, "random_flip": True})
    randomness = sample_step(8, LATENT_SHAPE, training, 1000, 0)
    assert (int(randomness.timesteps.min()), int(randomness.timesteps.max())) <= (20, 999)
    assert np.histogram(randomness.timesteps, bins=4, range=(0, 1000))[0].min() > 90
    assert 0.4 < float(randomness.mirrored.float().mean()) < 0.6
    plain = sample_step(8, LATENT_SHAPE, training.model_copy(update={"random_flip": False}), 1000, 0)
    assert not plain.mirrored.any()
    assert torch.equal(plain.noise, randomness.noise)


def test_validation_randomness_is_fixed_and_covers_the_schedule():
    first, second = fixed_randomness(10, LATENT_SHAPE, 1000), fixed_randomness(10, LATENT_SHAPE, 1000)
    assert first.timesteps.tolist() == list(range(50, 1000, 100))
    assert torch.equal(first.noise, second.noise)
    assert first.rows.tolist() == list(range(10))
