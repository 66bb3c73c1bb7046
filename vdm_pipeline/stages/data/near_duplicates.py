"""Pairs of images that show the same X-ray with small changes, found by the labeller's embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048
"""Rows and columns of a block of the similarity matrix. Memory does not grow with the number of images."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Whitening:
    """A linear map after which embeddings of ordinary images are uncorrelated and have the same variance.

    Embeddings of one kind of image all point in nearly the same direction (cosines above .99 are common
    between different images), and most of the remaining variance is the class. After whitening, different
    images have cosines around 0.4, and a copy with noise, other exposure or JPEG artefacts more than 0.85.
    """

    mean: Vectors
    projection: Vectors

    @classmethod
    def fit(cls, embeddings: Vectors, max_directions: int | None = None) -> "Whitening":
        """Fit to ``[n, d]``.

        Keeps the ``max_directions`` principal directions of largest variance, and none without variance.
        """
        mean = embeddings.mean(0)
        _, scale, directions = np.linalg.svd(embeddings - mean, full_matrices=False)
        has_variance = scale > 1e-3 * max(float(scale[0]), 1e-12)
        keep = has_variance & (np.arange(len(scale)) < (max_directions or len(scale)))
        return cls(mean, (directions[keep].T / scale[keep]).astype(np.float32))

    def __call__(self, embeddings: Vectors) -> Vectors:
        """Whitened embeddings, scaled to unit length, ``[n, k]``."""
        projected = (embeddings - self.mean) @ self.projection
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)


def close_pairs(vectors: Vectors, min_cosine: float) -> Iterator[tuple[int, int, float]]:
    """Pairs ``(later, earlier, cosine)`` of the unit vectors ``[n, d]`` with at least ``min_cosine``."""
    for top in range(0, len(vectors), BLOCK):
        for left in range(0, top + 1, BLOCK):
            cosines = vectors[top : top + BLOCK] @ vectors[left : left + BLOCK].T
            rows, columns = np.nonzero(cosines >= min_cosine)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                later, earlier = top + row, left + column
                if earlier < later:
                    yield later, earlier, float(cosines[row, column])
