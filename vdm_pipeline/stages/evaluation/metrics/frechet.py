"""FID: the Fréchet distance between normal distributions fitted to two sets of features.

The features are not Inception's, so values do not compare with published FID.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_RELIABLE_IMAGES = 2048
"""Images per set below which FID is mostly bias (Chong and Forsyth, 2020).

With 50 images of the same distribution it is in the hundreds.
"""


def frechet_distance(x: Floats, y: Floats) -> float:
    """``|μx - μy|² + tr(Σx + Σy - 2 (Σx Σy)^½)`` of features ``[n, d]`` and ``[m, d]`` (Heusel et al., 2017).

    The trace of the root is the nuclear norm of ``Xc Ycᵀ / sqrt((n - 1)(m - 1))``, with centred features
    ``Xc`` and ``Yc``. This avoids the root of a d x d matrix. Raises ``ValueError`` below 2 rows per set.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs 2 images per set; there are {len(x)} and {len(y)}")
    mean = x.mean(0) - y.mean(0)
    factor_x, factor_y = _covariance_factor(x), _covariance_factor(y)
    trace_of_root = np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum()
    return float(mean @ mean + (factor_x**2).sum() + (factor_y**2).sum() - 2 * trace_of_root)


def _covariance_factor(x: Floats) -> Floats:
    """A matrix ``R`` with ``RᵀR`` the covariance, ``[min(n, d), d]``; triangular if ``n > d``."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(centred).R if len(x) > x.shape[1] else centred
