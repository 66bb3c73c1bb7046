"""Intervals of figures that belong to whole sets, by leaving out a part at a time.

A bootstrap would put the same image into a set twice, and distances between sets, nearest neighbours and diversity all see
that as a change; leaving images out does not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 20
Rows = NDArray[np.intp]


def with_interval(
    measure: Callable[[Rows, Rows], float], n: int, m: int, *, seed: int, low: float = -np.inf, high: float = np.inf, blocks: int = BLOCKS
) -> dict[str, Any]:
    """``measure`` of all rows, with a 95 % delete-a-block jackknife interval (Shao and Wu, 1989), kept within ``[low, high]``.

    ``measure`` is given the rows to use of a set of ``n`` and of a set of ``m``; 0 for a figure of one set. Each set is left
    out block by block, in random blocks, and the variances of the two add up, as the sets are independent.
    """
    every_x, every_y = np.arange(n), np.arange(m)
    value = measure(every_x, every_y)
    without_x = [measure(np.delete(every_x, block), every_y) for block in _blocks(n, blocks, seed)]
    without_y = [measure(every_x, np.delete(every_y, block)) for block in _blocks(m, blocks, seed + 1)]
    half = _quantile(min(len(without) for without in (without_x, without_y) if without)) * np.sqrt(spread(without_x) + spread(without_y))
    return {"value": float(value), "ci95": [max(low, float(value - half)), min(high, float(value + half))]}


def spread(without: list[float]) -> float:
    """Variance of the whole figure, from the figures without each block: ``(b - 1) / b * sum of squared deviations``."""
    return float((len(without) - 1) * np.var(without)) if without else 0.0


def _blocks(n: int, blocks: int, seed: int) -> list[Rows]:
    return np.array_split(np.random.default_rng(seed).permutation(n), min(blocks, n)) if n else []


def _quantile(blocks: int) -> float:
    """97.5 % quantile of Student's distribution with one degree of freedom less than there are blocks."""
    from scipy.stats import t

    return float(t.ppf(0.975, blocks - 1))
