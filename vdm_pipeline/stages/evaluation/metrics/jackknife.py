"""Jackknife intervals of statistics of whole sets: recompute each without one block of rows at a time.

A bootstrap puts the same image into a set twice. Distances between sets, nearest neighbours and diversity all
count that as a change of the set. Leaving images out does not have this problem.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 20
Rows = NDArray[np.intp]


def with_interval(
    statistic: Callable[[Rows, Rows], float],
    n: int,
    m: int,
    *,
    seed: int,
    low: float = -np.inf,
    high: float = np.inf,
    blocks: int = BLOCKS,
) -> dict[str, Any]:
    """`with_intervals` for one statistic, whose interval is clipped to ``[low, high]``."""
    bounds = {"value": (low, high)}
    return with_intervals(
        lambda x, y: {"value": statistic(x, y)}, n, m, seed=seed, bounds=bounds, blocks=blocks
    )["value"]


def with_intervals(
    statistics: Callable[[Rows, Rows], Mapping[str, float]],
    n: int,
    m: int,
    *,
    seed: int,
    bounds: Mapping[str, tuple[float, float]],
    blocks: int = BLOCKS,
) -> dict[str, dict[str, Any]]:
    """Each statistic with its 95 % delete-a-block jackknife interval (Shao and Wu, 1989), within its bounds.

    ``statistics`` takes the rows to use of a set of ``n`` and of a set of ``m``; ``m`` is 0 for statistics
    of one set. The blocks are random. The sets are independent, so the variances from leaving out blocks of
    either add up.
    """
    all_x, all_y = np.arange(n), np.arange(m)
    whole = statistics(all_x, all_y)
    without_x = [statistics(np.delete(all_x, block), all_y) for block in _blocks(n, blocks, seed)]
    without_y = [statistics(all_x, np.delete(all_y, block)) for block in _blocks(m, blocks, seed + 1)]
    quantile = _t_quantile(min(len(without) for without in (without_x, without_y) if without))
    report = {}
    for name, value in whole.items():
        variance_x = jackknife_variance([values[name] for values in without_x])
        variance_y = jackknife_variance([values[name] for values in without_y])
        half = quantile * np.sqrt(variance_x + variance_y)
        low, high = bounds[name]
        interval = [max(low, float(value - half)), min(high, float(value + half))]
        report[name] = {"value": float(value), "ci95": interval}
    return report


def jackknife_variance(without: Sequence[float] | NDArray[np.float64]) -> float:
    """Variance of a statistic from its values ``v`` without each of ``b`` blocks; 0 if there are none.

    ``(b - 1) / b · Σ (v - mean)²``.
    """
    return float((len(without) - 1) * np.var(without)) if len(without) else 0.0


def _blocks(n: int, blocks: int, seed: int) -> list[Rows]:
    """Random blocks of the rows of a set of ``n``, none for an empty set."""
    if not n:
        return []
    return np.array_split(np.random.default_rng(seed).permutation(n), min(blocks, n))


def _t_quantile(blocks: int) -> float:
    """97.5 % quantile of Student's t distribution with ``blocks - 1`` degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.975, blocks - 1))
