"""FID: the Fréchet distance between normal distributions with the means and covariances of two sets of features."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TRUSTED = 2048
"""Images a set, below which FID is mostly bias: with 50 images of the same distribution it is hundreds (Chong and Forsyth, 2020)."""


def frechet_distance(x: Floats, y: Floats) -> float:
    """``|μx - μy|² + tr(Σx + Σy - 2 (Σx Σy)^½)`` of features ``[n, d]`` and ``[m, d]`` (Heusel et al., 2017).

    The trace of the root is the nuclear norm of ``Xc Ycᵀ / sqrt((n - 1)(m - 1))``, so no d x d root is taken; where there are
    fewer features than images the triangular factors of ``Xc`` and ``Yc`` stand for them. Raises ``ValueError`` below 2 rows.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs 2 images a set; there are {len(x)} and {len(y)}")
    mean = x.mean(0) - y.mean(0)
    left, right = _factor(x), _factor(y)
    root = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    return float(mean @ mean + (left**2).sum() + (right**2).sum() - 2 * root)


def _factor(x: Floats) -> Floats:
    """A matrix ``R`` with ``RᵀR`` the covariance, ``[min(n, d), d]``."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(centred).R if len(x) > x.shape[1] else centred
