"""KID and CMMD: an unbiased estimate of the squared maximum mean discrepancy (MMD), with two kernels.

Features are ``[n, d]`` with a mean square of 1 per row: unit vectors times the root of ``d``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.evaluation.metrics.jackknife import jackknife_variance

Floats = NDArray[np.float64]
Kernel = Callable[[Floats, Floats], Floats]

MIN_IMAGES = 3
"""Fewest images per set for an interval: the estimate needs 2, and the jackknife leaves one out."""
SIGMA = 10.0
SCALE = 1000.0
"""Of CMMD, as published (Jayasumana et al., 2024, section 4 and its code)."""
Z95 = 1.959964
"""97.5 % quantile of the normal distribution."""


def polynomial_kernel(x: Floats, y: Floats) -> Floats:
    """Kernel of KID, ``(x·y / d + 1)³``, ``[n, m]`` (Bińkowski et al., 2018)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: Floats, y: Floats) -> Floats:
    """Kernel of CMMD, ``1000 exp(-|x - y|² / 2σ²)`` on unit vectors, ``[n, m]``; σ = 10.

    1000 is the factor with which CMMD is reported.
    """
    d = x.shape[1]
    squares = (x**2).sum(1)[:, None] / d + (y**2).sum(1) / d - 2 * (x @ y.T) / d
    return SCALE * np.exp(-squares / (2 * SIGMA**2))


def squared_mmd(x: Floats, y: Floats, kernel: Kernel) -> float:
    """Unbiased squared MMD between features ``[n, d]`` and ``[m, d]`` (Gretton et al., 2012, eq. 3).

    Unbiased estimates can be below 0 if the two sets do not differ. Raises ``ValueError`` below 2 rows per
    set.
    """
    _check_sizes(x, y, 2)
    sum_x, sum_y = _row_sums(x, kernel).sum(), _row_sums(y, kernel).sum()
    return float(_unbiased(sum_x, sum_y, kernel(x, y).sum(), len(x), len(y)))


def squared_mmd_with_interval(x: Floats, y: Floats, kernel: Kernel) -> dict[str, Any]:
    """`squared_mmd` with its 95 % delete-one jackknife interval; raises ``ValueError`` below 3 rows per set.

    The estimates without one row follow from the row sums, so each kernel matrix is computed once.
    """
    _check_sizes(x, y, MIN_IMAGES)
    n, m = len(x), len(y)
    row_x, row_y, across = _row_sums(x, kernel), _row_sums(y, kernel), kernel(x, y)
    sum_x, sum_y, sum_xy = row_x.sum(), row_y.sum(), across.sum()
    value = float(_unbiased(sum_x, sum_y, sum_xy, n, m))
    without_x = _unbiased(sum_x - 2 * row_x, sum_y, sum_xy - across.sum(1), n - 1, m)
    without_y = _unbiased(sum_x, sum_y - 2 * row_y, sum_xy - across.sum(0), n, m - 1)
    half = Z95 * float(np.sqrt(jackknife_variance(without_x) + jackknife_variance(without_y)))
    return {"value": value, "ci95": [value - half, value + half]}


def _row_sums(x: Floats, kernel: Kernel) -> Floats:
    """Sum of each row's kernel values with the other rows, ``[n]``."""
    within = kernel(x, x)
    return within.sum(1) - np.diag(within)


def _unbiased(sum_x: Any, sum_y: Any, sum_xy: Any, n: int, m: int) -> Any:
    """Squared MMD of ``n`` and ``m`` rows from sums of kernel values: numbers, or arrays of one shape."""
    return sum_x / (n * (n - 1)) + sum_y / (m * (m - 1)) - 2 * sum_xy / (n * m)


def _check_sizes(x: Floats, y: Floats, least: int) -> None:
    if min(len(x), len(y)) < least:
        raise ValueError(f"a kernel distance needs {least} images per set; there are {len(x)} and {len(y)}")
