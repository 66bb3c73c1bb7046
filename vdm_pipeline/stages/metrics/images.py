"""How images compare: kernel distance, sharpness, colour, agreement; each value with a 95 % interval."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964
"""97.5 % quantile of the normal distribution."""


def polynomial_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(x·y / d + 1)³``, the kernel of KID (Bińkowski et al., 2018), ``[n, m]``."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, Any]:
    """Unbiased squared MMD between features ``[n, d]`` and ``[m, d]``, with a delete-one jackknife interval.

    Unbiased means that it can fall below 0 where the two sets do not differ. Raises ``ValueError`` below 3 rows a set.
    """
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(f"a kernel distance needs 3 images a set; there are {n} and {m}")
    within_x, within_y, across = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    row_x, row_y = within_x.sum(1) - np.diag(within_x), within_y.sum(1) - np.diag(within_y)
    sum_x, sum_y, sum_xy = row_x.sum(), row_y.sum(), across.sum()
    value = sum_x / (n * (n - 1)) + sum_y / (m * (m - 1)) - 2 * sum_xy / (n * m)
    without_x = (sum_x - 2 * row_x) / ((n - 1) * (n - 2)) + sum_y / (m * (m - 1)) - 2 * (sum_xy - across.sum(1)) / ((n - 1) * m)
    without_y = sum_x / (n * (n - 1)) + (sum_y - 2 * row_y) / ((m - 1) * (m - 2)) - 2 * (sum_xy - across.sum(0)) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    half = Z95 * float(np.sqrt(variance))
    return {"value": float(value), "ci95": [float(value) - half, float(value) + half]}


def mean_with_interval(values: NDArray[np.float64], resamples: int, seed: int) -> dict[str, Any]:
    """Mean over images with a bootstrap percentile interval; ``values`` is ``[n]``."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return {"value": float(values.mean()), "ci95": [float(low), float(high)]}


def sharpness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Variance of the 4-neighbour Laplacian of each grey image, in squared grey levels, ``[n]``."""
    grey = to_grey(images).astype(np.float64)
    centre = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * centre
    return laplacian.var(axis=(1, 2))


def chroma(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean spread between the channels of each image, in grey levels, ``[n]``; 0 for grey images."""
    if images.ndim == 3:
        return np.zeros(len(images))
    return (images.max(3).astype(np.float64) - images.min(3)).mean(axis=(1, 2))


def to_grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of the channels, ``[n, h, w]``; grey images are returned as they are."""
    return images if images.ndim == 3 else np.round(images.mean(3)).astype(np.uint8)
