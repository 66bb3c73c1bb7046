"""Distances between images by their pixels, whatever their brightness, contrast and orientation."""

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.data.grey import to_grey

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

SIDE = 32
"""Pixels to which images are reduced, which averages noise."""
COMPONENTS = 64
"""Principal components that are kept. The other ones of a small radiograph are mostly noise."""
FLIPS: dict[str, tuple[int, ...]] = {
    "": (),
    "mirrored": (2,),
    "upside down": (1,),
    "turned by 180 degrees": (1, 2),
}
"""Axes along which images ``[n, h, w]`` are flipped."""


class PixelSpace:
    """Standardized pixels in the principal components of real images (Turk and Pentland, 1991)."""

    def __init__(self, real: Images) -> None:
        """Find the components of ``real``, uint8 ``[n, h, w]`` or ``[n, h, w, 3]``."""
        pixels = standardized_pixels(real)
        self.components: Floats = np.linalg.eigh(pixels.T @ pixels)[1][:, -COMPONENTS:]

    def __call__(self, images: Images) -> Floats:
        """Features ``[n, d]``. Those of the inverted images have the opposite sign."""
        return standardized_pixels(images) @ self.components

    def flipped(self, images: Images) -> Floats:
        """Features of the images in each orientation of `FLIPS`, ``[4, n, d]``."""
        return np.stack([self(np.flip(images, axes)) for axes in FLIPS.values()])


def standardized_pixels(images: Images) -> Floats:
    """Grey pixels of the reduced images with mean 0 and length 1, ``[n, SIDE * SIDE]``; 0 if blank.

    The product of two of them is the correlation of the images.
    """
    pixels = resize(to_grey(images), SIDE).reshape(len(images), -1).astype(np.float64)
    centred = pixels - pixels.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)


def distances_in_any_orientation(flipped: Floats, features: Floats) -> Floats:
    """The smallest distance over all flips, inverted or not, ``[n, m]``, of ``[4, n, d]`` and ``[m, d]``."""
    squares = [_squared_distances(flip, features).min(0) for flip in flipped]
    return np.sqrt(np.min(squares, axis=0))


def describe_orientation(flipped: Floats, features: Floats) -> str:
    """How an image ``[4, d]`` is turned against another one ``[d]``: "mirrored, inverted", or "" if not."""
    squares = _squared_distances(flipped, features[None])[:, :, 0]
    inverted, flip = np.unravel_index(squares.argmin(), squares.shape)
    return ", ".join(part for part in (list(FLIPS)[flip], "inverted" if inverted else "") if part)


def _squared_distances(x: Floats, y: Floats) -> Floats:
    """``[2, n, m]``: of ``x`` ``[n, d]`` to ``y`` ``[m, d]``, and to the inverted ones."""
    norms, products = (x**2).sum(1)[:, None] + (y**2).sum(1), x @ y.T
    return np.maximum(np.stack([norms - 2 * products, norms + 2 * products]), 0)
