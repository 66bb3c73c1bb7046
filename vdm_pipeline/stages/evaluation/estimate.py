"""A value with its 95 % interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval ``(low, high)``."""

    value: float
    ci95: tuple[float, float]

    @classmethod
    def from_dict(cls, figure: Mapping[str, Any]) -> "Estimate":
        """From ``{"value": ..., "ci95": [low, high]}``, as the functions in ``metrics`` return it."""
        low, high = figure["ci95"]
        return cls(figure["value"], (low, high))

    @classmethod
    def from_resamples(cls, value: float, resampled: NDArray[np.float64]) -> "Estimate | None":
        """With the percentile interval of ``resampled`` ``[r]``; None if the value is NaN."""
        if np.isnan(value):
            return None
        low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
        return cls(float(value), (low, high))
