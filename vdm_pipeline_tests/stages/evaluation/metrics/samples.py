"""Features like those of an encoder: a few strong directions, a mean square of 1 a row."""

import numpy as np


def features(n: int, d: int = 64, *, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """``[n, d]``, standard deviations 1, 1/√2, 1/√3 and so on before the rows are normalised, the first column moved by ``shift``."""
    drawn = np.random.default_rng(seed).standard_normal((n, d)) / np.sqrt(np.arange(1, d + 1))
    drawn[:, 0] += shift
    return drawn / np.sqrt((drawn**2).mean(1, keepdims=True))


def share_within(intervals: list[list[float]], truth: float) -> float:
    """Share of the intervals that hold the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))
