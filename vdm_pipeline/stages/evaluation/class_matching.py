"""Rows of two image sets, chosen so that class frequencies match."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Rows = NDArray[np.intp]


def rows_with_class_shares(labels: Labels, reference: Labels, seed: int) -> Rows:
    """As many random rows of ``reference`` ``[m]`` as possible, with the class shares of ``labels`` ``[n]``.

    Empty if ``reference`` lacks a class of ``labels``.
    """
    needed = np.bincount(labels, minlength=int(reference.max(initial=0)) + 1)
    available = np.bincount(reference, minlength=len(needed))
    size = min((available[c] / needed[c] for c in np.flatnonzero(needed)), default=0.0)
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(reference == c))[: int(count * size + 1e-9)]
        for c, count in enumerate(needed)
    ]
    return np.sort(np.concatenate(rows))


def rows_with_equal_counts(labels: Labels, others: Labels, seed: int) -> tuple[Rows, Rows]:
    """Random rows of both sets, the same number of each class in both."""
    rng = np.random.default_rng(seed)
    rows, other_rows = [], []
    for label in np.union1d(labels, others):
        candidates = rng.permutation(np.flatnonzero(labels == label))
        other_candidates = rng.permutation(np.flatnonzero(others == label))
        count = min(len(candidates), len(other_candidates))
        rows.append(candidates[:count])
        other_rows.append(other_candidates[:count])
    return np.sort(np.concatenate(rows)), np.sort(np.concatenate(other_rows))
