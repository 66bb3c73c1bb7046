"""Precision, recall, density and coverage: how two sets lie among each other's nearest neighbours."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

NEIGHBOURS = 5
"""As in the paper of density and coverage (Naeem et al., 2020) and in CheXGenBench."""
LEAST = NEIGHBOURS + 1
"""Images a set, below which none has that many neighbours."""


def distances(x: Floats, y: Floats) -> Floats:
    """Euclidean distances ``[n, m]`` of features ``[n, d]`` and ``[m, d]``; exactly 0 between equal rows."""
    from scipy.spatial.distance import cdist

    return cdist(x, y)


@dataclass(frozen=True)
class Manifolds:
    """Distances within the real set ``[n, n]``, within the generated set ``[m, m]``, and from real to generated ``[n, m]``."""

    real: Floats
    generated: Floats
    across: Floats

    @classmethod
    def of(cls, real: Floats, generated: Floats) -> "Manifolds":
        """From features ``[n, d]`` and ``[m, d]``; raises ``ValueError`` below 6 rows a set."""
        if min(len(real), len(generated)) < LEAST:
            raise ValueError(
                f"{NEIGHBOURS} neighbours need {LEAST} images a set; there are {len(real)} and {len(generated)}"
            )
        return cls(distances(real, real), distances(generated, generated), distances(real, generated))

    def rows(self, real: Rows, generated: Rows) -> "Manifolds":
        """A part of both sets."""
        return Manifolds(
            self.real[np.ix_(real, real)],
            self.generated[np.ix_(generated, generated)],
            self.across[np.ix_(real, generated)],
        )

    @cached_property
    def real_reach(self) -> Floats:
        """Distance of each real image to its k-th neighbour, ``[n]``."""
        return reach(self.real)

    @cached_property
    def generated_reach(self) -> Floats:
        """Distance of each generated image to its k-th neighbour, ``[m]``."""
        return reach(self.generated)

    def precision(self) -> float:
        """Share of generated images within the reach of a real one (Kynkäänniemi et al., 2019)."""
        return float((self.across < self.real_reach[:, None]).any(0).mean())

    def recall(self) -> float:
        """Share of real images within the reach of a generated one (Kynkäänniemi et al., 2019)."""
        return float((self.across < self.generated_reach).any(1).mean())

    def density(self) -> float:
        """Mean number of real images in whose reach a generated one lies, over k; about 1 for the same distribution."""
        return float((self.across < self.real_reach[:, None]).sum(0).mean() / NEIGHBOURS)

    def coverage(self) -> float:
        """Share of real images with a generated one within their reach (Naeem et al., 2020)."""
        return float((self.across.min(1) < self.real_reach).mean())


def reach(within: Floats) -> Floats:
    """Distance of each image to its k-th neighbour in its own set, ``[n]``; the image itself does not count."""
    return np.partition(within, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
