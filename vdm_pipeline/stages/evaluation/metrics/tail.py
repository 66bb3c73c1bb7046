"""The value that a new observation exceeds with a small, given probability, from an exponential tail."""

import math

import numpy as np
from numpy.typing import NDArray

TAIL_SHARE = 0.2
"""Share of the sample to which the tail is fitted."""
CENSORED_SHARE = 0.05
"""Share of the sample, the largest values, that counts only as "at least as large as the next one".

So a few outliers in the sample do not change the fit.
"""
MIN_SAMPLE = 20
"""Fewest values for a fit."""


def tail_limit(sample: NDArray[np.float64], probability: float) -> float:
    """The limit that a new value exceeds with this ``probability``; ``sample`` is ``[n]``.

    Above the threshold ``u``, values are assumed exponential: peaks over threshold (Pickands, 1975; Coles,
    2001, ch. 4) with shape 0. Of the ``m`` values above ``u``, the ``c`` largest are censored (Epstein and
    Sobel, 1953), and ``k = m - c``. Then the excess of a new value, divided by the estimated scale ``s``, has
    the distribution F(2, 2 k):

        P(new > x) = (m + 1) / (n + 1) * (1 + (x - u) / (k s)) ** -k

    So the limit accounts for the estimates: a small sample gives a far one. Raises ``ValueError`` below
    `MIN_SAMPLE` values, and for a ``probability`` above ``(m + 1) / (n + 1)``.
    """
    n = len(sample)
    m, c = int(TAIL_SHARE * n), math.ceil(CENSORED_SHARE * n)
    above_threshold = (m + 1) / (n + 1)
    if n < MIN_SAMPLE or not 0 < probability <= above_threshold:
        raise ValueError(f"no limit of probability {probability} from {n} values")
    largest_first = np.sort(sample)[::-1]
    threshold, excesses = largest_first[m], largest_first[:m] - largest_first[m]
    k = m - c
    scale = (excesses[c:].sum() + c * excesses[c]) / k
    return float(threshold + k * scale * ((above_threshold / probability) ** (1 / k) - 1))
