"""Render films from attenuation: Beer-Lambert, scatter, quantum noise, detector blur, tone curve."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from vdm_pipeline.stages.data.phantom.anatomy import line_integral
from vdm_pipeline.stages.data.phantom.geometry import Array
from vdm_pipeline.stages.data.phantom.patient import Patient, draw_patient, stack

CHUNK = 8
"""Films rendered together: enough to amortize NumPy's overhead, few enough for the cache."""
OVERSAMPLED_BELOW = 128
"""Below this size each pixel is the mean of 2 x 2 rays, to avoid aliasing of the ribs."""


def render(
    seed: int, indices: NDArray[np.int64], pneumonia: NDArray[np.bool_], size: int
) -> NDArray[np.uint8]:
    """Render the films ``indices`` of the series ``seed``, shape ``[n, size, size]``, uint8.

    Each film depends only on its own (seed, index, pneumonia, size), not on other films or on threads.
    """
    if size < 16:
        raise ValueError(f"size is {size} pixels; a phantom needs at least 16")

    def render_chunk(start: int) -> NDArray[np.uint8]:
        chunk = slice(start, start + CHUNK)
        return _render_chunk(seed, indices[chunk], pneumonia[chunk], size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chunks = list(pool.map(render_chunk, range(0, len(indices), CHUNK)))
    return np.concatenate(chunks) if chunks else np.zeros((0, size, size), np.uint8)


def _render_chunk(
    seed: int, indices: NDArray[np.int64], pneumonia: NDArray[np.bool_], size: int
) -> NDArray[np.uint8]:
    patients = stack([draw_patient(seed, int(i), bool(p)) for i, p in zip(indices, pneumonia, strict=True)])
    rays = size * 2 if size < OVERSAMPLED_BELOW else size
    x, row = _pixel_grid(patients, rays)
    rngs = [np.random.Generator(np.random.Philox(key=int(s))) for s in np.asarray(patients.noise_seed)]
    attenuation = line_integral(patients, x, row, _texture(rngs, rays, patients))
    if rays != size:
        attenuation = attenuation.reshape(len(indices), size, 2, size, 2).mean(axis=(2, 4))
    return _expose(patients, attenuation, list(rngs))


def _pixel_grid(patient: Patient, rays: int) -> tuple[Array, Array]:
    """Body coordinates (cm) of the rays: columns ``[n, 1, rays]`` and rows ``[n, rays, 1]``."""
    ticks = (np.arange(rays, dtype=np.float32) + 0.5) / rays - 0.5
    scale = patient.field / patient.size
    return (ticks[None, None, :] + patient.shift_x) * scale, (ticks[None, :, None] + patient.shift_y) * scale


def _texture(rngs: list[np.random.Generator], rays: int, patient: Patient) -> Array:
    """Lung parenchyma: white noise smoothed to about 0.7 cm.

    It is drawn on a grid of 64 x 64 for every image size, so that a film looks the same at all sizes.
    """
    raster = 64
    white = np.stack([rng.standard_normal((raster, raster), dtype=np.float32) for rng in rngs])
    smooth = gaussian_filter(white, (0, 1.2, 1.2), mode="wrap")
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    position = (np.arange(rays, dtype=np.float32) + 0.5) / rays * raster - 0.5
    low = np.clip(np.floor(position).astype(int), 0, raster - 2)
    weight = np.clip(position - low, 0, 1)
    rows = smooth[:, low, :] * (1 - weight)[None, :, None] + smooth[:, low + 1, :] * weight[None, :, None]
    return rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight


def _expose(patient: Patient, attenuation: Array, rngs: list[np.random.Generator]) -> NDArray[np.uint8]:
    size = attenuation.shape[-1]
    primary = np.exp(-attenuation)
    scattered = patient.scatter * gaussian_filter(primary, (0, 0.09 * size, 0.09 * size), mode="nearest")
    intensity = primary + scattered
    quanta = patient.exposure * intensity
    noise = np.stack([rng.standard_normal((size, size), dtype=np.float32) for rng in rngs])
    detected = np.maximum(quanta + np.sqrt(quanta) * noise, 1) / patient.exposure  # Poisson at high counts
    detected = gaussian_filter(detected, (0, 0.45, 0.45), mode="nearest")
    return _tone_curve(patient, -np.log(detected))


def _tone_curve(patient: Patient, density: Array) -> NDArray[np.uint8]:
    """Sigmoid display curve, centred on the exposure of the film as on a radiology workstation."""
    size = density.shape[-1]
    middle = density[:, size // 8 : -size // 8, size // 8 : -size // 8]
    low, high = np.percentile(middle, (5, 90), axis=(1, 2), keepdims=True).astype(np.float32)
    scale = (high - low) * patient.window_width
    centred = (density - (low + high) / 2) / scale - 0.35 * patient.window_centre
    grey = 1 / (1 + np.exp(-3.0 * centred))
    return np.round(255 * grey).astype(np.uint8)


def render_in_chunks(
    seed: int, indices: NDArray[np.int64], pneumonia: NDArray[np.bool_], size: int, chunk_size: int = 512
) -> Iterator[NDArray[np.uint8]]:
    """`render` in chunks, so that the caller can report progress."""
    for start in range(0, len(indices), chunk_size):
        chunk = slice(start, start + chunk_size)
        yield render(seed, indices[chunk], pneumonia[chunk], size)
