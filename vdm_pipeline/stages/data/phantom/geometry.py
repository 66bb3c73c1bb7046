"""Closed-form line integrals of simple solids along parallel rays.

Rays run along z (depth). Pixel coordinates ``x`` (right) and ``y`` (down) are in cm. A ray meets a convex
solid in one interval, so unions and differences of solids are exact sums of interval lengths.
Arrays broadcast as ``[n, height, width]``, float32; solids carry parameters of shape ``[n, 1, 1]``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Interval(NamedTuple):
    """The part of each ray inside a solid: ``middle ± half`` in cm; ``half`` is 0 where the ray misses it."""

    middle: Array
    half: Array

    @property
    def length(self) -> Array:
        """Chord length in cm."""
        return 2 * self.half


def ellipsoid(x: Array, y: Array, centre: tuple, axes: tuple, tilt: Array | float = 0.0) -> Interval:
    """Chord of the ellipsoid with ``centre`` (x, y, z) and half ``axes`` (a, b, c).

    It is tilted in the image plane by ``tilt`` rad.
    From ``(u/a)² + (v/b)² + (z/c)² = 1``: half chord = ``c sqrt(1 - (u/a)² - (v/b)²)``.
    """
    dx, dy = x - centre[0], y - centre[1]
    if np.any(tilt):
        dx, dy = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)
    inside = np.maximum(1 - (dx / axes[0]) ** 2 - (dy / axes[1]) ** 2, 0)
    return Interval(centre[2], axes[2] * np.sqrt(inside))


def tube(distance: Array, radius: Array | float) -> Array:
    """Chord (cm) of a ray that passes the axis of a tube at ``distance``. The axis is in the image plane."""
    return 2 * np.sqrt(np.maximum(radius * radius - distance * distance, 0))


def overlap(*intervals: Interval) -> Array:
    """Length (cm) that a ray spends in all of the solids at once."""
    start = intervals[0].middle - intervals[0].half
    stop = intervals[0].middle + intervals[0].half
    for interval in intervals[1:]:
        start = np.maximum(start, interval.middle - interval.half)
        stop = np.minimum(stop, interval.middle + interval.half)
    return np.maximum(stop - start, 0)


def minus(solid: Interval, first: Interval, second: Interval) -> Array:
    """Length (cm) inside ``solid`` and outside both others, by inclusion and exclusion."""
    return solid.length - overlap(solid, first) - overlap(solid, second) + overlap(solid, first, second)
