"""Closed-form depths of the thorax against counting steps through the same solids, defined here again."""

from dataclasses import replace

import numpy as np
import pytest

from vdm_pipeline.stages.data.phantom import anatomy
from vdm_pipeline.stages.data.phantom.patient import Patient, draw_patient, stack

STEP = 0.02
Z = np.arange(-14, 14, STEP)
X, ROW = np.linspace(-14.9, 14.9, 32)[None, None, :], np.linspace(-15.1, 15.1, 32)[None, :, None]
PATIENTS = [1, 4, 6]


def person(index: int) -> Patient:
    """A healthy patient with breasts, a gastric bubble, and vessels that leave the lungs.

    Without ribs, because their depth is an approximation.
    """
    drawn = draw_patient(5, index, False)
    return replace(drawn, rib_density=0.0, breast=1.5, gas=0.8, vessels=drawn.vessels * [1, 1, 2, 2])


def inside(p: Patient, centre: tuple, axes: tuple, tilt: float = 0.0) -> np.ndarray:
    """Which points ``[y, x, z]`` are in the ellipsoid, by its equation in the frame rotated by ``tilt``."""
    x, y = X[0] - centre[0], sheared(p) - centre[1]
    u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    return ((u / axes[0]) ** 2 + (v / axes[1]) ** 2)[..., None] + ((Z - centre[2]) / axes[2]) ** 2 < 1


def sheared(p: Patient) -> np.ndarray:
    return ROW[0] - p.lean * X[0]


def length(points: np.ndarray) -> np.ndarray:
    return points.sum(axis=-1) * STEP


def rotation_shift(p: Patient, z: float) -> float:
    return -z * np.sin(p.rotation)


def marched_lungs(p: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Depth of both lungs ``[y, x]``, and of the overlap of mediastinum and dome, which `_lungs` neglects."""
    depth, neglected, k = np.zeros((32, 32)), np.zeros((32, 32)), p.heart
    mediastinum = inside(p, (rotation_shift(p, -1), -1, 0), (2.9, 19, 8.5))
    heart = inside(
        p,
        (2.6 + rotation_shift(p, -3), 6.4 + 0.5 * p.inspiration, -2.5),
        (6.6 * k, 4.9 * k, 6.2 * k),
        p.heart_tilt,
    )
    right_heart = inside(
        p, (-0.6 + rotation_shift(p, -3), 5.6 + 0.5 * p.inspiration, -2), (4 * k, 5.4 * k, 6 * k)
    )
    for side, organ, top in ((-1, right_heart, 16.6 + p.inspiration), (1, heart, 17.5 + p.inspiration)):
        centre = (side * 7 * p.width + rotation_shift(p, 0.5), 1.6, 0.5)
        axes = (5.7 * p.width * (1 + 0.6 * side * np.sin(p.rotation)), p.lung_height + 0.9, 0.84 * p.depth)
        lung = inside(p, centre, axes, 0.13 * side) & (sheared(p) <= top)[..., None]
        dome = inside(p, (side * 6.8 * p.width, top, -0.5), (8.4, 7.6, 11.5))
        depth += length(lung & ~organ & ~dome & ~mediastinum)
        neglected += length(lung & mediastinum & dome)
    return depth, neglected


def marched_vessels(p: Patient, air: np.ndarray) -> np.ndarray:
    """Depth of cones from the hila outwards, faded out where there is little lung."""
    total = np.zeros_like(air)
    for side, angle, vessel_length, radius in p.vessels:
        x, y = side * X[0] - 3.2 * p.width, sheared(p) - 1.5
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        thickness = radius * (1 - along / vessel_length)
        cone = (across**2)[..., None] + Z**2 < (thickness**2)[..., None]
        total += length(cone & ((along > 0) & (along < vessel_length))[..., None])
    return total * np.minimum(air / 4, 1)


def marched_integral(p: Patient, texture: np.ndarray) -> np.ndarray:
    y, air = sheared(p), marched_lungs(p)[0]
    rise = 1 / (1 + np.exp(-(y - p.shoulder) / 0.9))
    bulge = 1.8 * np.exp(-((y - p.shoulder - 3) ** 2) / 40)
    width = 5.2 + 0.3 * p.fat + (14.2 * p.width + p.fat - 5.2 + bulge) * rise
    depth = (p.depth + 0.5 * p.fat) * (0.62 + 0.38 * rise)
    soft = length(((X[0] / width) ** 2)[..., None] + (Z / depth[..., None]) ** 2 < 1)
    for side in (-1, 1):
        soft += length(
            inside(p, (side * 8 * p.width + rotation_shift(p, -10), 8.5, 0), (5.5, 5, p.breast / 2))
        )
    soft -= (1 - p.lung_density * (1 + 0.16 * texture)) * air
    soft += 0.9 * marched_vessels(p, air)
    soft -= length(rod(X[0] - rotation_shift(p, 1) + 0 * y, 0.85)) / (1 + np.exp((y + 4.5) / 0.5))
    soft -= length(
        inside(p, (5.6, 12.4 + p.inspiration, 0), (2.6 * p.gas + 0.01, 1.5 * p.gas + 0.01, 3 * p.gas))
    )
    discs = 0.72 + 0.28 * np.tanh(3 * np.cos(2 * np.pi * y / 2.7) + 1.5)
    bone = 0.3 * discs * length(rod(X[0] - rotation_shift(p, 6) + 0 * y, 1.75))
    sideways = np.abs(X[0] - rotation_shift(p, -8))
    slope = p.clavicle - 0.5 / 2.6 * np.cos(sideways / 2.6)
    above = y - (p.shoulder + 3.6 + p.clavicle * sideways - 0.5 * np.sin(sideways / 2.6))
    bone += (
        0.75 * length(rod(above * np.cos(np.arctan(slope)), 0.62)) * ((sideways > 1.2) & (sideways < 13.5))
    )
    return 0.206 * np.maximum(soft, 0) + (0.604 - 0.206) * bone


def rod(distance: np.ndarray, radius: float) -> np.ndarray:
    """Points ``[y, x, z]`` of a tube whose axis the rays pass at ``distance``, at right angles."""
    return (distance**2)[..., None] + Z**2 < radius**2


def lungs(p: Patient) -> np.ndarray:
    patients = stack([p])
    return sum(anatomy._lungs(patients, X, ROW - patients.lean * X))[0]


def integral(p: Patient, texture: np.ndarray) -> np.ndarray:
    return anatomy.line_integral(stack([p]), X, ROW, texture[None])[0]


@pytest.mark.parametrize("index", PATIENTS)
def test_depth_of_the_lungs(index):
    depth, neglected = marched_lungs(person(index))
    assert (neglected > 0).mean() < 0.02
    np.testing.assert_allclose(lungs(person(index))[neglected == 0], depth[neglected == 0], atol=5 * STEP)
    assert depth.max() > 10 and (depth == 0).any()


@pytest.mark.parametrize("index", PATIENTS)
def test_the_whole_line_integral(index):
    texture = np.random.default_rng(index).standard_normal((32, 32))
    p = person(index)
    difference = np.abs(integral(p, texture) - marched_integral(p, texture))
    exact = marched_lungs(p)[1] == 0
    assert not (exact & (difference > 0.206 * 6 * STEP)).any()


@pytest.mark.parametrize("index", PATIENTS)
def test_vessels_in_the_lungs(index):
    p, flat = person(index), np.zeros((32, 32))
    without = replace(p, vessels=p.vessels * [1, 1, 1, 0])
    expected = 0.206 * 0.9 * marched_vessels(p, lungs(p))
    np.testing.assert_allclose(integral(p, flat) - integral(without, flat), expected, atol=0.206 * 3 * STEP)
    assert (expected > 0.05).sum() > 20
