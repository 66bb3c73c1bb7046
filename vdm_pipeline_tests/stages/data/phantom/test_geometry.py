"""Closed-form chords against brute force: counting steps along the ray."""

import numpy as np
import pytest

from vdm_pipeline.stages.data.phantom.geometry import ellipsoid, minus, overlap, tube

STEP = 0.002
Z = np.arange(-12, 12, STEP)
TICKS = np.linspace(-6, 6, 13)
X, Y = TICKS[None, None, :], TICKS[None, :, None]

SOLIDS = [
    ((0.3, -0.4, 1.0), (4.0, 2.5, 3.0), 0.0),
    ((-1.0, 0.7, -2.0), (3.0, 5.0, 4.0), 0.6),
    ((1.5, 1.0, 2.5), (2.0, 4.0, 6.0), -0.9),
]


def inside(solid) -> np.ndarray:
    """Which points ``[y, x, z]`` are in the ellipsoid, by its implicit equation in the rotated frame."""
    (cx, cy, cz), (a, b, c), tilt = solid
    x, y, z = X[0, :, :, None] - cx, Y[0, :, :, None] - cy, Z[None, None, :] - cz
    u = x * np.cos(tilt) + y * np.sin(tilt)
    v = -x * np.sin(tilt) + y * np.cos(tilt)
    return (u / a) ** 2 + (v / b) ** 2 + (z / c) ** 2 < 1


def length(points: np.ndarray) -> np.ndarray:
    """Brute-force length along z."""
    return points.sum(axis=-1)[None] * STEP


@pytest.mark.parametrize("solid", SOLIDS)
def test_chord_of_an_ellipsoid(solid):
    chord = ellipsoid(X, Y, *solid)
    np.testing.assert_allclose(chord.length, length(inside(solid)), atol=2 * STEP)
    hit = chord.length > 0.1
    middles = (inside(solid) * Z).sum(-1)[None] / np.maximum(inside(solid).sum(-1)[None], 1)
    np.testing.assert_allclose(np.broadcast_to(chord.middle, hit.shape)[hit], middles[hit], atol=2 * STEP)
    assert hit.any() and not hit.all()


def test_overlap_of_two_and_of_three():
    a, b, c = (ellipsoid(X, Y, *solid) for solid in SOLIDS)
    in_a, in_b, in_c = (inside(solid) for solid in SOLIDS)
    np.testing.assert_allclose(overlap(a, b), length(in_a & in_b), atol=3 * STEP)
    np.testing.assert_allclose(overlap(a, b, c), length(in_a & in_b & in_c), atol=3 * STEP)
    np.testing.assert_allclose(overlap(a, b, c), overlap(c, a, b))
    assert overlap(a, b, c).max() > 0.5


def test_solid_minus_two_others():
    a, b, c = (ellipsoid(X, Y, *solid) for solid in SOLIDS)
    in_a, in_b, in_c = (inside(solid) for solid in SOLIDS)
    np.testing.assert_allclose(minus(a, b, c), length(in_a & ~in_b & ~in_c), atol=5 * STEP)
    np.testing.assert_allclose(minus(a, a, b), 0, atol=1e-9)


@pytest.mark.parametrize("angle", [np.pi / 2, 0.7])
def test_chord_of_a_tube(angle):
    """``angle`` is between axis and ray. The chord of a tilted tube is longer by ``1 / sin(angle)``."""
    radius = 1.3
    axis = np.array([np.sin(angle), 0, np.cos(angle)])
    distances = np.linspace(-1.6, 1.6, 9)
    points = np.stack(np.broadcast_arrays(0.0, distances[:, None], Z[None, :]), axis=-1)
    from_axis = np.linalg.norm(np.cross(points, axis), axis=-1)
    brute = (from_axis < radius).sum(axis=-1) * STEP
    np.testing.assert_allclose(tube(distances, radius) / np.sin(angle), brute, atol=3 * STEP)
    assert tube(np.array([1.31]), 1.3)[0] == 0
