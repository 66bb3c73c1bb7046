"""Ways to copy an image; each keeps uint8 images ``[n, h, w]`` in their order."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from vdm_pipeline_tests.planted import add_noise

Images = np.ndarray


def one_pixel_changed(images: Images) -> Images:
    """One pixel differs by one grey level."""
    changed = images.copy()
    changed[:, 10, 10] ^= 1
    return changed


def as_jpeg(images: Images, quality: int = 90) -> Images:
    return np.stack([_as_jpeg(image, quality) for image in images])


def _as_jpeg(image: Images, quality: int) -> Images:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _rounded(images: np.ndarray) -> Images:
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[Images], Images]] = {
    "unchanged": lambda images: images,
    "one pixel by one grey level": one_pixel_changed,
    "JPEG, quality 90": as_jpeg,
    "noise of 3 %": lambda images: add_noise(images, 0, 0.03 * 255),
    "10 % brighter": lambda images: _rounded(images * 1.1),
    "10 % darker": lambda images: _rounded(images * 0.9),
    "mirrored": lambda images: images[:, :, ::-1],
    "upside down": lambda images: images[:, ::-1],
    "inverted": lambda images: 255 - images,
}
"""Single copies of these kinds must be found."""
HARDER_COPIES: dict[str, Callable[[Images], Images]] = {
    "blurred, σ = 1 pixel": lambda images: np.stack(
        [ndimage.gaussian_filter(image, 1.0) for image in images]
    ),
    "noise of 8 %": lambda images: add_noise(images, 0, 0.08 * 255),
    "shifted by one pixel": lambda images: np.roll(images, 1, 2),
    "rotated by 2 degrees": lambda images: np.stack(
        [ndimage.rotate(image, 2, reshape=False, mode="nearest") for image in images]
    ),
}
"""Copies that the test is not made for."""
