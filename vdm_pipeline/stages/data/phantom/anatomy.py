"""The thorax as solids, and its attenuation line integral. Lengths in cm; y points down, z to the back.

Attenuation coefficients are for 60 keV, about the mean energy of a 110 kVp chest film, from the NIST tables
of Hubbell and Seltzer (ICRU-44 tissues): water 0.206 /cm, cortical bone 0.604 /cm.
"""

import numpy as np

from vdm_pipeline.stages.data.phantom.geometry import Array, Interval, ellipsoid, minus, overlap, tube
from vdm_pipeline.stages.data.phantom.patient import VESSELS, Patient

MU_SOFT = 0.206
MU_BONE = 0.604
RIB_PAIRS = 10
SAG = 1.4
"""Height of a rib's arch above the straight line from back to front, cm."""


def line_integral(patient: Patient, x: Array, row: Array, texture: Array) -> Array:
    """Attenuation ``∫ μ dz`` (no unit) over the image ``[n, height, width]``.

    ``patient`` is a stack. Body coordinates are ``x`` [n, 1, width] and ``row`` [n, height, 1]. ``texture``
    is a smooth random field ``[n, height, width]`` (mean 0, std 1) that modulates the density of the lung.
    """
    y = row - patient.lean * x
    body = _body(patient, x, y)
    right, left = _lungs(patient, x, y)
    air = right + left
    aerated = 1 - patient.lung_density * (1 + 0.16 * texture)
    filled = _consolidation(patient, x, row, air)
    soft = body + _breasts(patient, x, y) - aerated * (air - filled) + 0.9 * _vessels(patient, x, y, air)
    soft = soft - _trachea(patient, x, y) - _gastric_bubble(patient, x, y)
    bone = _ribs(patient, x, row, y) + _spine(patient, x, y) + _clavicles(patient, x, y)
    return MU_SOFT * np.maximum(soft, 0) + (MU_BONE - MU_SOFT) * bone


def _rotation_shift(patient: Patient, z: float) -> Array:
    """Sideways shift of a structure at depth ``z`` of a rotated patient."""
    return -z * np.sin(patient.rotation)


def _body(patient: Patient, x: Array, y: Array) -> Array:
    """Torso and neck: an elliptic cross-section. Its half width follows the outline of neck and shoulders."""
    chest = 14.2 * patient.width + patient.fat
    rise = 1 / (1 + np.exp(-(y - patient.shoulder) / 0.9))
    bulge = 1.8 * np.exp(-((y - patient.shoulder - 3) ** 2) / 40)
    half_width = 5.2 + 0.3 * patient.fat + (chest - 5.2 + bulge) * rise
    half_depth = (patient.depth + 0.5 * patient.fat) * (0.62 + 0.38 * rise)
    inside = 1 - (x / half_width) ** 2
    return 2 * half_depth * np.sqrt(np.maximum(inside, 0))


def _lungs(patient: Patient, x: Array, y: Array) -> tuple[Array, Array]:
    """Depth of the right (image left) and left lung: an ellipsoid minus mediastinal organs and diaphragm.

    On rays that meet both the mediastinum and the diaphragm's dome, their overlap is subtracted twice. This
    affects fewer than 1 % of the rays and is not worth its cost.
    """
    heart, mediastinum = _heart(patient, x, y), _mediastinum(patient, x, y)
    lungs = []
    for side in (-1, 1):
        lean = -0.13 * side  # apices lean to the midline
        widening = 1 + 0.6 * side * np.sin(patient.rotation)
        lung = ellipsoid(
            x,
            y,
            (side * 7.0 * patient.width + _rotation_shift(patient, 0.5), 1.6, np.float32(0.5)),
            (5.7 * patient.width * widening, patient.lung_height + 0.9, 0.84 * patient.depth),
            -lean,
        )
        dome_y = 16.6 + patient.inspiration + (0.9 if side == 1 else 0.0)
        dome = ellipsoid(x, y, (side * 6.8 * patient.width, dome_y, np.float32(-0.5)), (8.4, 7.6, 11.5))
        organ = heart if side == 1 else _right_heart(patient, x, y)
        depth = minus(lung, organ, dome) - overlap(lung, mediastinum) + overlap(lung, mediastinum, organ)
        lungs.append(np.maximum(depth, 0))
    return lungs[0], lungs[1]


def _heart(patient: Patient, x: Array, y: Array) -> Interval:
    k = patient.heart
    return ellipsoid(
        x,
        y,
        (2.6 + _rotation_shift(patient, -3.0), 6.4 + 0.5 * patient.inspiration, np.float32(-2.5)),
        (6.6 * k, 4.9 * k, 6.2 * k),
        patient.heart_tilt,
    )


def _right_heart(patient: Patient, x: Array, y: Array) -> Interval:
    k = patient.heart
    return ellipsoid(
        x,
        y,
        (-0.6 + _rotation_shift(patient, -3.0), 5.6 + 0.5 * patient.inspiration, np.float32(-2.0)),
        (4.0 * k, 5.4 * k, 6.0 * k),
    )


def _mediastinum(patient: Patient, x: Array, y: Array) -> Interval:
    return ellipsoid(x, y, (_rotation_shift(patient, -1.0), -1.0, np.float32(0.0)), (2.9, 19.0, 8.5))


def _breasts(patient: Patient, x: Array, y: Array) -> Array:
    total: Array = np.zeros((1, 1, 1), np.float32)
    for side in (-1, 1):
        centre = (side * 8.0 * patient.width + _rotation_shift(patient, -10.0), 8.5, 0.0)
        total = total + ellipsoid(x, y, centre, (5.5, 5.0, patient.breast / 2)).length
    return total


def _trachea(patient: Patient, x: Array, y: Array) -> Array:
    fade = 1 / (1 + np.exp((y + 4.5) / 0.5))
    return tube(x - _rotation_shift(patient, 1.0), 0.85) * fade


def _gastric_bubble(patient: Patient, x: Array, y: Array) -> Array:
    k = patient.gas
    axes = (2.6 * k + 0.01, 1.5 * k + 0.01, 3.0 * k)
    return ellipsoid(x, y, (5.6, 12.4 + patient.inspiration, 0.0), axes).length


def _vessels(patient: Patient, x: Array, y: Array, air: Array) -> Array:
    """Tapering straight tubes that fan out from the hila, faded out where there is little lung.

    Each is drawn only in its own half of the image, which halves the cost.
    """
    total = np.zeros_like(air)
    half = air.shape[-1] // 2
    for index in range(VESSELS):
        side, angle, length, radius = (patient.vessels[:, index, k].reshape(-1, 1, 1) for k in range(4))
        columns = slice(half, None) if index % 2 else slice(None, half)
        dx = side * x[..., columns] - 3.2 * patient.width
        dy = y[..., columns] - 1.5
        cos, sin = np.cos(angle), np.sin(angle)
        along = np.clip((dx * cos + dy * sin) / length, 0, 1)
        total[..., columns] += tube(dy * cos - dx * sin, radius * (1 - along)) * (along > 0)
    return total * np.minimum(air / 4, 1)


def _ribs(patient: Patient, x: Array, row: Array, y: Array) -> Array:
    """Ten pairs of tubes bent around the rib cage.

    Each is an arc ``(A sin φ, y0 + drop φ/π - sag, C cos φ)`` with φ = 0 at the spine. A ray meets it twice,
    in the back (φ) and in the front (π - φ). The tube is approximated as straight across its own width. All
    but the distance depends only on the column, so it is computed on ``[n, 1, width]``, and a pair is drawn
    only in its own band of rows.
    """
    total = np.zeros_like(y)
    sideways = np.abs(x)
    for pair in range(RIB_PAIRS):
        level = -15.5 + 2.9 * pair
        cage = patient.width * 13.6 * np.sqrt(np.maximum(1 - ((level - 4.5) / 21.5) ** 2, 0.05))
        sine = np.minimum(sideways / cage, 0.998)
        band = _band(row, level - SAG - 3, level + float(np.max(patient.rib_drop)) + 3)
        for front in (False, True):
            phi = np.pi - np.arcsin(sine) if front else np.arcsin(sine)
            cosine = np.cos(phi)
            centre = level + patient.rib_drop * phi / np.pi - SAG * sine
            slope_x, slope_y = cage * cosine, patient.rib_drop / np.pi - SAG * cosine
            in_plane = np.sqrt(slope_x**2 + slope_y**2)
            towards_ray = 0.88 * patient.depth * sine
            foreshortening = np.maximum(in_plane / np.sqrt(in_plane**2 + towards_ray**2), 0.35)
            ends = np.clip((0.84 * np.pi - phi) / 0.5, 0, 1) * np.clip((cage - sideways) / 0.6, 0, 1)
            bone = patient.rib_density * (0.6 if front else 1.0) * ends * (sideways > 1.5)
            across = np.abs(slope_x) / in_plane
            chord = tube((y[:, band] - centre) * across, patient.rib_radius)
            total[:, band] += chord * (bone / foreshortening)
    return total


def _band(row: Array, low: float, high: float) -> slice:
    """Rows of the image that are between ``low`` and ``high`` (cm) for at least one patient."""
    inside = np.flatnonzero(((row > low) & (row < high)).any(axis=(0, 2)))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def _spine(patient: Patient, x: Array, y: Array) -> Array:
    """Vertebral column: a tube of trabecular bone, thinner at the discs."""
    column = tube(x - _rotation_shift(patient, 6.0), 1.75)
    discs = 0.72 + 0.28 * np.tanh(3 * np.cos(2 * np.pi * y / 2.7) + 1.5)
    return 0.30 * column * discs


def _clavicles(patient: Patient, x: Array, y: Array) -> Array:
    sideways = np.abs(x - _rotation_shift(patient, -8.0))
    centre = patient.shoulder + 3.6 + patient.clavicle * sideways - 0.5 * np.sin(sideways / 2.6)
    slope = patient.clavicle - 0.5 / 2.6 * np.cos(sideways / 2.6)
    distance = (y - centre) / np.sqrt(1 + slope * slope)
    return 0.75 * tube(distance, 0.62) * ((sideways > 1.2) & (sideways < 13.5))


def _consolidation(patient: Patient, x: Array, row: Array, air: Array) -> Array:
    """Depth (cm) of lung that is filled with fluid.

    Blobs are Gaussians. Their line integral is a Gaussian that is separable in ``x`` [n, 1, width] and
    ``row`` [n, height, 1]. ``air (1 - exp(-filled / air))`` keeps the sum below the depth of the lung.
    """
    if not patient.blobs.any():
        return np.zeros_like(air)
    cx, cy, a, b, depth, density = (patient.blobs[:, :, k, None] for k in range(6))
    u = (x / patient.field + 0.5 - cx) / np.maximum(a, 1e-3)
    v = (row.transpose(0, 2, 1) / patient.field + 0.5 - cy) / np.maximum(b, 1e-3)
    filled = np.einsum("nbh,nbw->nhw", density * depth * np.exp(-1.2 * v * v), np.exp(-1.2 * u * u))
    room = np.maximum(air, 1e-3)
    return np.minimum(room * (1 - np.exp(-2 * filled / room)), 0.95 * air)
