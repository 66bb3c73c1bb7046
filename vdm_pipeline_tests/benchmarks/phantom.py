"""How fast phantoms are rendered, against ray marching: ``python -m vdm_pipeline_tests.benchmarks.phantom``.

The naive way samples the attenuation along every ray. Here an ellipsoid alone is marched, at 128 samples a ray, which is
less work than the whole thorax; the ratio is therefore a lower bound.
"""

import time

import numpy as np

from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.data.phantom.geometry import ellipsoid

SIZE, FILMS, SAMPLES = 64, 512, 128
SOLIDS = 31
"""Solids of one film: body, lungs, hearts, mediastinum, domes, breasts, bubble, trachea, ten rib pairs, spine, clavicles."""


def closed_form() -> float:
    """Seconds a film, whole thorax."""
    begun = time.perf_counter()
    render(1, np.arange(FILMS), np.arange(FILMS) % 2 == 0, SIZE)
    return (time.perf_counter() - begun) / FILMS


def marched_ellipsoid() -> float:
    """Seconds a film for one ellipsoid by sampling, checked against its closed form."""
    rays = 2 * SIZE
    ticks = np.linspace(-17, 17, rays, dtype=np.float32)
    x, y, z = ticks[None, :, None], ticks[:, None, None], np.linspace(-12, 12, SAMPLES, dtype=np.float32)
    begun = time.perf_counter()
    inside = (x / 9) ** 2 + (y / 12) ** 2 + (z / 8) ** 2 < 1
    length = inside.sum(-1) * (24 / (SAMPLES - 1))
    seconds = time.perf_counter() - begun
    exact = ellipsoid(ticks[None, None, :], ticks[None, :, None], (0, 0, np.float32(0)), (9, 12, 8)).length[0]
    assert np.abs(length - exact).max() < 0.5, "the marched chord is wrong"
    return seconds


if __name__ == "__main__":
    fast, slow = closed_form(), marched_ellipsoid() * SOLIDS
    print(
        f"closed form {1 / fast:.0f} films/s at {SIZE} px; ray marching about {1 / slow:.1f} films/s; ratio {slow / fast:.0f}"
    )
