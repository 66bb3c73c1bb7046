"""Conversion between grey and colour, and the distance of colour images from grey."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray


def chroma(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean difference between the largest and smallest channel per image, in grey levels, ``[n]``."""
    if images.ndim == 3:
        return np.zeros(len(images))
    red, green, blue = np.moveaxis(images, 3, 0)  # numpy is 25 times slower along an axis of length three
    largest = np.maximum(np.maximum(red, green), blue)
    smallest = np.minimum(np.minimum(red, green), blue)
    return (largest - smallest).mean(axis=(1, 2))


def to_grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of the channels, ``[n, h, w]``; grey images are returned unchanged."""
    if images.ndim == 3:
        return images
    red, green, blue = np.moveaxis(images.astype(np.uint16), 3, 0)
    return np.round((red + green + blue) / 3).astype(np.uint8)


def with_channels(images: NDArray[np.uint8], channels: Literal[1, 3]) -> NDArray[np.uint8]:
    """The images in grey, ``[n, h, w]``, or with three channels, ``[n, h, w, 3]``."""
    if channels == 1:
        return to_grey(images)
    return np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images


def channels_of(images: NDArray[np.uint8]) -> Literal[1, 3]:
    """Channels of images ``[n, h, w]`` or ``[n, h, w, 3]``."""
    return 1 if images.ndim == 3 else 3
