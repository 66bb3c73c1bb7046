"""Paired differences between two values of the same image: their mean, its interval and its p-value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval

Floats = NDArray[np.float64]


def paired_difference(before: Floats, after: Floats, resamples: int, seed: int) -> dict[str, Any]:
    """Mean of ``after - before``, both ``[n]``, with a bootstrap interval over pairs and a p-value."""
    difference = after - before
    return {
        "n": len(difference),
        **mean_with_interval(difference, resamples, seed),
        "p": sign_flip_p(difference, resamples, seed),
    }


def sign_flip_p(difference: Floats, resamples: int, seed: int) -> float:
    """Two-sided p-value of a mean difference of 0, ``difference`` ``[n]`` (Fisher's randomisation test).

    Under the null hypothesis each sign is random. The p-value is ``(k + 1) / (resamples + 1)``, where ``k``
    counts the random signs with a mean at least as far from 0. It is never 0 (Phipson and Smyth, 2010).
    """
    signs = np.random.default_rng(seed).integers(0, 2, (resamples, len(difference))) * 2 - 1
    flipped = np.abs(signs @ difference)
    rounding = 1e-12 * np.abs(difference).sum()
    return float(((flipped >= abs(difference.sum()) - rounding).sum() + 1) / (resamples + 1))
