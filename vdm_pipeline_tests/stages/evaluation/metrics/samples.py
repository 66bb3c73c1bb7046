"""Features like those of an encoder: a few strong directions, and a mean square of 1 per row."""

import numpy as np


def features(n: int, d: int = 64, *, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """``[n, d]``: columns of std 1, 1/√2, 1/√3 ..., the first moved by ``shift``; rows are normalised."""
    rows = np.random.default_rng(seed).standard_normal((n, d)) / np.sqrt(np.arange(1, d + 1))
    rows[:, 0] += shift
    return rows / np.sqrt((rows**2).mean(1, keepdims=True))


def share_within(intervals: list[list[float]], truth: float) -> float:
    """Share of the intervals that contain the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))
