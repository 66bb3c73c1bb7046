"""Precision, recall, density and coverage: how two sets lie among each other's nearest neighbours."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

NEIGHBOURS = 5
"""k, as in the paper of density and coverage (Naeem et al., 2020) and in CheXGenBench."""
MIN_IMAGES = NEIGHBOURS + 1
"""Fewest images per set: with fewer, no image has k neighbours."""


def distances(x: Floats, y: Floats) -> Floats:
    """Euclidean distances ``[n, m]`` of features ``[n, d]`` and ``[m, d]``; exactly 0 between equal rows."""
    from scipy.spatial.distance import cdist

    return cdist(x, y)


def kth_neighbour_distance(within: Floats) -> Floats:
    """Distance of each image to its k-th neighbour in its own set, ``[n]``, from distances ``[n, n]``.

    The image itself does not count as a neighbour.
    """
    return np.partition(within, NEIGHBOURS, axis=1)[:, NEIGHBOURS]


@dataclass(frozen=True)
class Manifolds:
    """Two sets, where each image is a ball whose radius is the distance to its k-th neighbour.

    ``real`` ``[n, n]`` and ``generated`` ``[m, m]`` are distances within a set, ``across`` ``[n, m]`` those
    from real to generated images.
    """

    real: Floats
    generated: Floats
    across: Floats

    @classmethod
    def of(cls, real: Floats, generated: Floats) -> "Manifolds":
        """From features ``[n, d]`` and ``[m, d]``; raises ``ValueError`` below 6 rows per set."""
        n, m = len(real), len(generated)
        if min(n, m) < MIN_IMAGES:
            raise ValueError(
                f"{NEIGHBOURS} neighbours need {MIN_IMAGES} images per set; there are {n} and {m}"
            )
        return cls(distances(real, real), distances(generated, generated), distances(real, generated))

    def rows(self, real: Rows, generated: Rows) -> "Manifolds":
        """The same for some rows of both sets."""
        return Manifolds(
            self.real[np.ix_(real, real)],
            self.generated[np.ix_(generated, generated)],
            self.across[np.ix_(real, generated)],
        )

    @cached_property
    def real_radii(self) -> Floats:
        """`kth_neighbour_distance` of the real images, ``[n]``."""
        return kth_neighbour_distance(self.real)

    @cached_property
    def generated_radii(self) -> Floats:
        """`kth_neighbour_distance` of the generated images, ``[m]``."""
        return kth_neighbour_distance(self.generated)

    def precision(self) -> float:
        """Share of generated images inside the ball of any real one (Kynkäänniemi et al., 2019)."""
        return float((self.across < self.real_radii[:, None]).any(0).mean())

    def recall(self) -> float:
        """Share of real images inside the ball of any generated one (Kynkäänniemi et al., 2019)."""
        return float((self.across < self.generated_radii).any(1).mean())

    def density(self) -> float:
        """Mean number of real balls that contain a generated image, over k (Naeem et al., 2020).

        About 1 for sets of the same distribution.
        """
        return float((self.across < self.real_radii[:, None]).sum(0).mean() / NEIGHBOURS)

    def coverage(self) -> float:
        """Share of real images whose ball contains a generated one (Naeem et al., 2020)."""
        return float((self.across.min(1) < self.real_radii).mean())
