"""Rendered phantoms for the embedded models, cached in a work folder as memory-mapped arrays."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.stages.data.phantom.film import render_in_chunks

SIZE = 64
SEED = 20_260_101
"""No profile renders these phantoms, as seeds of profiles are below 1,000,000."""


def phantom_images(work: Path, count: int, *, pneumonia: bool, first: int = 0) -> NDArray[np.uint8]:
    """Phantoms ``first`` to ``first + count`` of one class, ``[count, 64, 64]`` uint8.

    They are rendered once, then memory-mapped.
    """
    path = work / f"films_{'pneumonia' if pneumonia else 'normal'}_{first}_{count}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        indices = np.arange(first, first + count)
        chunks = render_in_chunks(SEED, indices, np.full(count, pneumonia), SIZE)
        np.save(path.with_suffix(".part.npy"), np.concatenate(list(chunks)))
        path.with_suffix(".part.npy").rename(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def both_classes(work: Path, per_class: int) -> NDArray[np.uint8]:
    """``per_class`` healthy phantoms, then as many with pneumonia."""
    return np.concatenate([phantom_images(work, per_class, pneumonia=value) for value in (False, True)])


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Grey uint8 ``[n, h, w]`` to float32 RGB ``[n, 3, h, w]`` in [-1, 1]."""
    grey = torch.from_numpy(np.array(images)).float().div(127.5).sub(1)
    return grey[:, None].expand(-1, 3, -1, -1)
