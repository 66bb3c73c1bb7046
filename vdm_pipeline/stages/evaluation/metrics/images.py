"""Metrics of single images, and the mean of such values with its 95 % interval."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.grey import to_grey


def mean_with_interval(values: NDArray[np.float64], resamples: int, seed: int) -> dict[str, Any]:
    """Mean of ``values`` ``[n]``, one per image, with a bootstrap percentile interval."""
    rows = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(values[rows].mean(1), (2.5, 97.5))
    return {"value": float(values.mean()), "ci95": [float(low), float(high)]}


def sharpness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Variance of the 4-neighbour Laplacian of each grey image, in squared grey levels, ``[n]``."""
    grey = to_grey(images).astype(np.float64)
    centre = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * centre
    return laplacian.var(axis=(1, 2))
