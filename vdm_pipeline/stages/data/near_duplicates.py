"""Which images are the same film twice, slightly changed: told from the labeller's embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048
"""Rows compared with as many others at a time; memory does not grow with the number of images."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Whitening:
    """A turn and stretch under which the embeddings of ordinary images are uncorrelated and of unit spread.

    Embeddings of one kind of image all point the same way (cosines above .99 are common between strangers), and most of what
    is left is the class. Whitened, strangers have cosines around 0.4 and a copy with noise, other exposure or JPEG above 0.85.
    """

    mean: Vectors
    turn: Vectors

    @classmethod
    def of(cls, embeddings: Vectors, most: int | None = None) -> "Whitening":
        """Learn from ``[n, d]``; directions without spread are left out, and all but the ``most`` that spread furthest."""
        mean = embeddings.mean(0)
        _, spread, directions = np.linalg.svd(embeddings - mean, full_matrices=False)
        keep = (spread > 1e-3 * max(float(spread[0]), 1e-12)) & (
            np.arange(len(spread)) < (most or len(spread))
        )
        return cls(mean, (directions[keep].T / spread[keep]).astype(np.float32))

    def __call__(self, embeddings: Vectors) -> Vectors:
        """Unit vectors ``[n, k]``."""
        turned = (embeddings - self.mean) @ self.turn
        return turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)


def close_pairs(vectors: Vectors, least: float) -> Iterator[tuple[int, int, float]]:
    """All pairs ``(later, earlier, cosine)`` of unit vectors ``[n, d]`` with a cosine of ``least`` and above."""
    for top in range(0, len(vectors), BLOCK):
        for left in range(0, top + 1, BLOCK):
            similar = vectors[top : top + BLOCK] @ vectors[left : left + BLOCK].T
            rows, columns = np.nonzero(similar >= least)
            for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
                if left + j < top + i:
                    yield top + i, left + j, float(similar[i, j])
