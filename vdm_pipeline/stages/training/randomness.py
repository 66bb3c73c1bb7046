"""Everything random of a step, as a function of (seed, step): there is no generator whose state could be lost.

Philox (Salmon et al., 2011) is counter-based: the seed is its key, and a stream's number and the step stand in the upper
words of its counter, so no two draws overlap and any step can be drawn without the ones before.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.settings import Training

ORDER, STEP, HELD_OUT = range(3)
"""Streams: the order of the images in an epoch, what a step draws, and the fixed draws of the validation loss."""


@dataclass(frozen=True)
class StepRandomness:
    """One optimizer step: images ``[batch]``, which of them are mirrored, and noise ``[batch, 4, h, w]``, on the CPU.

    ``posterior`` draws the latent from its posterior, ``noise`` is what is added at ``timesteps``, and ``offset``
    ``[batch, 4, 1, 1]`` is one number a channel for the noise offset.
    """

    rows: torch.Tensor
    mirrored: torch.Tensor
    posterior: torch.Tensor
    noise: torch.Tensor
    offset: torch.Tensor
    timesteps: torch.Tensor

    def part(self, start: int, stop: int) -> "StepRandomness":
        """Some of the images; a step's result does not depend on how it is cut."""
        return StepRandomness(*(getattr(self, name)[start:stop] for name in self.__dataclass_fields__))


def sample_step(
    n: int, latent: tuple[int, ...], training: Training, timesteps: int, step: int
) -> StepRandomness:
    """The draws of ``step`` over ``n`` images with latents of shape ``latent`` ``[4, h, w]``."""
    rows = epoch_rows(n, training.batch_size, training.seed, step)
    return _randomness(
        _generator(training.seed, STEP, step), rows, latent, timesteps, flip=training.random_flip
    )


def fixed_randomness(n: int, latent: tuple[int, ...], timesteps: int) -> StepRandomness:
    """The same for every call: each of ``n`` held-out images once, at timesteps spread evenly, so that losses compare."""
    drawn = _randomness(_generator(0, HELD_OUT, 0), np.arange(n), latent, timesteps, flip=False)
    spread = torch.from_numpy((np.arange(n) + 0.5) / n * timesteps).long()
    return StepRandomness(drawn.rows, drawn.mirrored, drawn.posterior, drawn.noise, drawn.offset, spread)


def epoch_rows(n: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Images of a step ``[batch]``: the stream of seeded permutations of ``n``, cut into batches, so that none is left out."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = {epoch: _generator(seed, ORDER, int(epoch)).permutation(n) for epoch in np.unique(places // n)}
    return np.array([epochs[place // n][place % n] for place in places])


def _randomness(
    generator: np.random.Generator,
    rows: NDArray[np.int64],
    latent: tuple[int, ...],
    timesteps: int,
    *,
    flip: bool,
) -> StepRandomness:
    n = len(rows)
    mirrored = generator.random(n) < 0.5
    return StepRandomness(
        rows=torch.from_numpy(rows),
        mirrored=torch.from_numpy(mirrored & flip),
        timesteps=torch.from_numpy(generator.integers(timesteps, size=n)),
        offset=torch.from_numpy(generator.standard_normal((n, latent[0], 1, 1), np.float32)),
        posterior=torch.from_numpy(generator.standard_normal((n, *latent), np.float32)),
        noise=torch.from_numpy(generator.standard_normal((n, *latent), np.float32)),
    )


def _generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, index]))
