"""KID and CMMD: one unbiased estimate of the squared maximum mean discrepancy, two kernels.

Features are ``[n, d]`` with a mean square of 1 a row: unit vectors times the root of ``d``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kernel = Callable[[Floats, Floats], Floats]

LEAST = 3
"""Images a set, below which leaving one out leaves no distance."""
SIGMA = 10.0
SCALE = 1000.0
"""Of CMMD, as published (Jayasumana et al., 2024, section 4 and its code)."""
Z95 = 1.959964
"""97.5 % quantile of the normal distribution."""


def polynomial_kernel(x: Floats, y: Floats) -> Floats:
    """``(x·y / d + 1)³``, the kernel of KID (Bińkowski et al., 2018), ``[n, m]``."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: Floats, y: Floats) -> Floats:
    """``1000 exp(-|x - y|² / 2σ²)`` on unit vectors, σ = 10: the kernel of CMMD, and the factor it is quoted with, ``[n, m]``."""
    d = x.shape[1]
    squares = (x**2).sum(1)[:, None] / d + (y**2).sum(1) / d - 2 * (x @ y.T) / d
    return SCALE * np.exp(-squares / (2 * SIGMA**2))


def squared_mmd(x: Floats, y: Floats, kernel: Kernel) -> dict[str, Any]:
    """Unbiased squared MMD between features ``[n, d]`` and ``[m, d]`` (Gretton et al., 2012, eq. 3), with a delete-one interval.

    Unbiased means that it can fall below 0 where the two sets do not differ. Raises ``ValueError`` below 3 rows a set.
    """
    n, m = len(x), len(y)
    if min(n, m) < LEAST:
        raise ValueError(f"a kernel distance needs {LEAST} images a set; there are {n} and {m}")
    within_x, within_y, across = kernel(x, x), kernel(y, y), kernel(x, y)
    row_x, row_y = within_x.sum(1) - np.diag(within_x), within_y.sum(1) - np.diag(within_y)
    sum_x, sum_y, sum_xy = row_x.sum(), row_y.sum(), across.sum()
    value = sum_x / (n * (n - 1)) + sum_y / (m * (m - 1)) - 2 * sum_xy / (n * m)
    without_x = (
        (sum_x - 2 * row_x) / ((n - 1) * (n - 2))
        + sum_y / (m * (m - 1))
        - 2 * (sum_xy - across.sum(1)) / ((n - 1) * m)
    )
    without_y = (
        sum_x / (n * (n - 1))
        + (sum_y - 2 * row_y) / ((m - 1) * (m - 2))
        - 2 * (sum_xy - across.sum(0)) / (n * (m - 1))
    )
    half = Z95 * float(np.sqrt((n - 1) * without_x.var() + (m - 1) * without_y.var()))
    return {"value": float(value), "ci95": [float(value) - half, float(value) + half]}
