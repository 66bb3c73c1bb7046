"""The random numbers of a step as a function of (seed, step), so that no generator state has to be saved.

Philox (Salmon et al., 2011) is counter-based. The seed is its key; the number of the stream and the step are
the upper words of its counter. Streams never overlap, and any step can be sampled without the ones before.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.settings import Training

ORDER, STEP, HELD_OUT = range(3)
"""Streams: the order of images in an epoch, the numbers of a step, and those of the validation loss."""


@dataclass(frozen=True)
class StepRandomness:
    """Random numbers of one optimizer step, sampled on the CPU.

    ``rows`` are the images ``[batch]``, and ``mirrored`` marks those that are mirrored. ``posterior`` samples
    the latent from its posterior, and ``noise`` is added at ``timesteps``; both are ``[batch, 4, h, w]``.
    ``offset`` ``[batch, 4, 1, 1]`` is the noise offset, one number per channel.
    """

    rows: torch.Tensor
    mirrored: torch.Tensor
    posterior: torch.Tensor
    noise: torch.Tensor
    offset: torch.Tensor
    timesteps: torch.Tensor

    def part(self, start: int, stop: int) -> "StepRandomness":
        """Images ``start`` to ``stop``; the result of a step does not depend on how it is split."""
        return StepRandomness(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    def share(self, process_index: int, num_processes: int) -> "StepRandomness":
        """The images of one process."""
        n = len(self.rows)
        return self.part(process_index * n // num_processes, (process_index + 1) * n // num_processes)

    def to(self, device: torch.device) -> "StepRandomness":
        """The same numbers on ``device``."""
        return StepRandomness(
            *(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self))
        )


def sample_step(
    n: int, latent_shape: tuple[int, ...], training: Training, num_train_timesteps: int, step: int
) -> StepRandomness:
    """The random numbers of ``step`` over ``n`` images; ``latent_shape`` is ``[4, h, w]``."""
    rows = epoch_rows(n, training.batch_size, training.seed, step)
    generator = _generator(training.seed, STEP, step)
    return _sample(generator, rows, latent_shape, num_train_timesteps, flip=training.random_flip)


def fixed_randomness(n: int, latent_shape: tuple[int, ...], num_train_timesteps: int) -> StepRandomness:
    """Each of ``n`` held-out images once, with evenly spaced timesteps.

    Every call returns the same numbers, so that validation losses compare.
    """
    sampled = _sample(_generator(0, HELD_OUT, 0), np.arange(n), latent_shape, num_train_timesteps, flip=False)
    timesteps = torch.from_numpy((np.arange(n) + 0.5) / n * num_train_timesteps).long()
    return replace(sampled, timesteps=timesteps)


def epoch_rows(n: int, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Images of a step ``[batch_size]``: seeded permutations of ``n``, one per epoch, cut into batches.

    A batch may span two epochs, so no image is left out.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {
        epoch: _generator(seed, ORDER, int(epoch)).permutation(n) for epoch in np.unique(positions // n)
    }
    return np.array([epochs[position // n][position % n] for position in positions])


def _sample(
    generator: np.random.Generator,
    rows: NDArray[np.int64],
    latent_shape: tuple[int, ...],
    num_train_timesteps: int,
    *,
    flip: bool,
) -> StepRandomness:
    """The order of the calls decides the numbers: do not change it."""
    n = len(rows)
    mirrored = generator.random(n) < 0.5
    return StepRandomness(
        rows=torch.from_numpy(rows),
        mirrored=torch.from_numpy(mirrored & flip),
        timesteps=torch.from_numpy(generator.integers(num_train_timesteps, size=n)),
        offset=torch.from_numpy(generator.standard_normal((n, latent_shape[0], 1, 1), np.float32)),
        posterior=torch.from_numpy(generator.standard_normal((n, *latent_shape), np.float32)),
        noise=torch.from_numpy(generator.standard_normal((n, *latent_shape), np.float32)),
    )


def _generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, index]))
