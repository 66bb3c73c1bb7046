"""Random parameters of the patient on a film, one patient per (seed, index). Lengths in cm, angles in rad."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.phantom.lesions import MAX_LESIONS, draw_lesions

BLOBS = 6
"""Ellipsoids per consolidation."""
VESSELS = 10
"""Pulmonary vessels in both lungs together."""


@dataclass(frozen=True)
class Patient:
    """Parameters of one film. In a stack of patients every field has a leading axis."""

    size: float  # scale of the whole body, 1 = adult
    width: float  # scale of the chest's width
    fat: float  # cm of soft tissue over the cage
    depth: float  # half depth of the body, cm
    lung_height: float  # half height of a lung, cm
    inspiration: float  # downward shift of the diaphragm, cm
    heart: float  # scale of the heart
    heart_tilt: float
    rotation: float  # about the body's long axis
    lean: float  # slope of the shoulders in the image
    shift_x: float  # of the crop, share of the field
    shift_y: float  # of the crop, share of the field
    field: float  # width of the image, cm
    shoulder: float  # height of the shoulders, cm
    rib_drop: float  # descent of a rib from back to front, cm
    rib_radius: float
    rib_density: float
    clavicle: float  # slope
    gas: float  # scale of the gastric bubble
    breast: float  # thickness, cm
    lung_density: float  # attenuation of aerated lung against soft tissue
    exposure: float  # detected quanta per pixel in free air
    scatter: float  # scatter-to-primary ratio
    window_centre: float
    window_width: float
    vessels: NDArray[np.float64]  # [VESSELS, 4]: side, angle, length, radius
    blobs: NDArray[np.float64]
    """``[MAX_LESIONS * BLOBS, 6]``: x, y, a, b (shares of the field), depth, density."""
    noise_seed: int
    """An array of one per film in a stack."""


def draw_patient(seed: int, index: int, pneumonia: bool) -> Patient:
    """Draw patient ``index`` of series ``seed``. The same arguments give the same patient on any machine.

    A healthy film and one with pneumonia of the same (seed, index) differ only in the consolidations.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 2 * index]))
    uniform = rng.uniform
    vessels = _draw_vessels(rng)
    return Patient(
        size=uniform(0.86, 1.06),
        width=uniform(0.92, 1.10),
        fat=1.0 + 2.4 * rng.beta(1.5, 3.5),
        depth=uniform(9.0, 11.5),
        lung_height=uniform(12.6, 14.6),
        inspiration=uniform(-2.0, 1.6),
        heart=uniform(0.86, 1.14),
        heart_tilt=uniform(0.35, 0.75),
        rotation=rng.normal(0, 0.06),
        lean=rng.normal(0, 0.03),
        shift_x=rng.normal(0, 0.018),
        shift_y=rng.normal(0, 0.022),
        field=uniform(29.5, 34.0),
        shoulder=uniform(-15.5, -13.0),
        rib_drop=uniform(5.5, 8.5),
        rib_radius=uniform(0.42, 0.56),
        rib_density=uniform(0.55, 0.95),
        clavicle=uniform(-0.28, 0.02),
        gas=_present(uniform(0.4, 1.2), rng, 0.6),
        breast=_present(uniform(0.6, 2.2), rng, 0.4),
        lung_density=uniform(0.20, 0.32),
        exposure=10 ** uniform(4.3, 5.1),
        scatter=uniform(0.15, 0.45),
        window_centre=rng.normal(0, 0.16),
        window_width=uniform(0.85, 1.2),
        vessels=vessels,
        blobs=_draw_consolidations(seed, index) if pneumonia else np.zeros((MAX_LESIONS * BLOBS, 6)),
        noise_seed=int(rng.integers(2**62)),
    )


def _present(value: float, rng: np.random.Generator, probability: float) -> float:
    """The value with this probability, else 0."""
    return value if rng.random() < probability else 0.0


def _draw_vessels(rng: np.random.Generator) -> NDArray[np.float64]:
    """``[VESSELS, 4]``: side (-1 or 1), angle, length, radius."""
    side = np.where(np.arange(VESSELS) % 2, 1.0, -1.0)
    angle = rng.uniform(-1.15, 1.15, VESSELS)
    length = rng.uniform(4, 9, VESSELS)
    radius = rng.uniform(0.18, 0.42, VESSELS)
    return np.stack([side, angle, length, radius], axis=1)


def _draw_consolidations(seed: int, index: int) -> NDArray[np.float64]:
    """Fill each lesion box with overlapping blobs, for an irregular outline. Unused rows are zero."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 2 * index + 1]))
    rows = np.zeros((MAX_LESIONS, BLOBS, 6))
    for row, (x, y, width, height) in zip(rows, draw_lesions(rng), strict=False):
        density = rng.uniform(0.6, 1.0)
        share = rng.uniform(0.42, 0.72, BLOBS)
        row[:, 0] = x + width / 2 * (1 - share) * rng.uniform(-1, 1, BLOBS)
        row[:, 1] = y + height / 2 * (1 - share) * rng.uniform(-1, 1, BLOBS)
        row[:, 2], row[:, 3] = width / 2 * share, height / 2 * share
        row[:, 4] = rng.uniform(4, 8, BLOBS)
        row[:, 5] = density * rng.uniform(0.55, 1, BLOBS)
    return rows.reshape(-1, 6)


def stack(patients: list[Patient]) -> Patient:
    """Combine patients: scalars become ``[n, 1, 1]`` float32, and tables ``[n, rows, columns]``."""
    columns = {}
    for field in fields(Patient):
        values = [getattr(patient, field.name) for patient in patients]
        if field.name == "noise_seed":
            columns[field.name] = np.array(values)
        else:
            column = np.asarray(values, dtype=np.float32)
            columns[field.name] = column.reshape(-1, 1, 1) if column.ndim == 1 else column
    return Patient(**columns)  # type: ignore[arg-type]
