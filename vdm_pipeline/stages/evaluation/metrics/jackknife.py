"""Intervals of figures that belong to whole sets, by leaving out a part at a time.

A bootstrap would put the same image into a set twice, and distances between sets, nearest neighbours and diversity all see
that as a change; leaving images out does not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 20
Rows = NDArray[np.intp]


def with_interval(
    measure: Callable[[Rows, Rows], float],
    n: int,
    m: int,
    *,
    seed: int,
    low: float = -np.inf,
    high: float = np.inf,
    blocks: int = BLOCKS,
) -> dict[str, Any]:
    """One figure as `with_intervals` has it, kept within ``[low, high]``."""
    return with_intervals(
        lambda x, y: {"it": measure(x, y)}, n, m, seed=seed, bounds={"it": (low, high)}, blocks=blocks
    )["it"]


def with_intervals(
    measure: Callable[[Rows, Rows], Mapping[str, float]],
    n: int,
    m: int,
    *,
    seed: int,
    bounds: Mapping[str, tuple[float, float]],
    blocks: int = BLOCKS,
) -> dict[str, dict[str, Any]]:
    """What ``measure`` finds, each with a 95 % delete-a-block jackknife interval (Shao and Wu, 1989) kept within its bounds.

    ``measure`` is given the rows to use of a set of ``n`` and of a set of ``m``; 0 for figures of one set. Each set is left
    out block by block, in random blocks, and the variances of the two add up, as the sets are independent.
    """
    every_x, every_y = np.arange(n), np.arange(m)
    whole = measure(every_x, every_y)
    without_x = [measure(np.delete(every_x, block), every_y) for block in _blocks(n, blocks, seed)]
    without_y = [measure(every_x, np.delete(every_y, block)) for block in _blocks(m, blocks, seed + 1)]
    width = _quantile(min(len(without) for without in (without_x, without_y) if without))
    found = {}
    for name, value in whole.items():
        half = width * np.sqrt(
            sum(spread([figures[name] for figures in without]) for without in (without_x, without_y))
        )
        low, high = bounds[name]
        found[name] = {
            "value": float(value),
            "ci95": [max(low, float(value - half)), min(high, float(value + half))],
        }
    return found


def spread(without: list[float]) -> float:
    """Variance of the whole figure, from the figures without each block: ``(b - 1) / b * sum of squared deviations``."""
    return float((len(without) - 1) * np.var(without)) if without else 0.0


def _blocks(n: int, blocks: int, seed: int) -> list[Rows]:
    return np.array_split(np.random.default_rng(seed).permutation(n), min(blocks, n)) if n else []


def _quantile(blocks: int) -> float:
    """97.5 % quantile of Student's distribution with one degree of freedom less than there are blocks."""
    from scipy.stats import t

    return float(t.ppf(0.975, blocks - 1))
