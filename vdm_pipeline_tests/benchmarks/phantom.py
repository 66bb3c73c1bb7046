"""Speed of rendering phantoms against ray marching: ``python -m vdm_pipeline_tests.benchmarks.phantom``.

Ray marching samples the attenuation along every ray. Here it is timed for one ellipsoid with 128 samples per
ray, which is less work than the whole thorax, so the ratio is a lower bound.
"""

import time

import numpy as np

from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.data.phantom.geometry import ellipsoid

SIZE, COUNT, SAMPLES = 64, 512, 128
SOLIDS = 31
"""Solids of one X-ray: body, lungs, heart, diaphragm, breasts, ribs, spine and so on."""


def closed_form() -> float:
    """Seconds per X-ray of the whole thorax."""
    start = time.perf_counter()
    render(1, np.arange(COUNT), np.arange(COUNT) % 2 == 0, SIZE)
    return (time.perf_counter() - start) / COUNT


def marched_ellipsoid() -> float:
    """Seconds per X-ray of one ellipsoid by sampling, checked against its closed form."""
    rays = 2 * SIZE
    ticks = np.linspace(-17, 17, rays, dtype=np.float32)
    x, y, z = ticks[None, :, None], ticks[:, None, None], np.linspace(-12, 12, SAMPLES, dtype=np.float32)
    start = time.perf_counter()
    inside = (x / 9) ** 2 + (y / 12) ** 2 + (z / 8) ** 2 < 1
    length = inside.sum(-1) * (24 / (SAMPLES - 1))
    seconds = time.perf_counter() - start
    exact = ellipsoid(ticks[None, None, :], ticks[None, :, None], (0, 0, np.float32(0)), (9, 12, 8)).length[0]
    assert np.abs(length - exact).max() < 0.5, "the marched chord is wrong"
    return seconds


if __name__ == "__main__":
    fast, slow = closed_form(), marched_ellipsoid() * SOLIDS
    print(f"closed form at {SIZE} px: {1 / fast:.0f} images/s")
    print(f"ray marching: about {1 / slow:.1f} images/s; ratio {slow / fast:.0f}")
