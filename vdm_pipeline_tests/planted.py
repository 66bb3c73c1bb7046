"""Image sets with known faults, which replace the output of a model in tests of the metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Images = np.ndarray
ImageSet = tuple[np.ndarray, np.ndarray]
"""Images, uint8 ``[n, h, w]``, and the requested class of each, ``[n]``."""

COPY_NOISE = 6.0
"""Std of the noise on copies, in grey levels: hardly visible, but it changes nearly every pixel."""


def add_noise(images: Images, seed: int, std: float = COPY_NOISE) -> Images:
    noise = np.random.default_rng(seed).normal(0, std, images.shape)
    return np.clip(np.round(images + noise), 0, 255).astype(np.uint8)


def blur(images: Images, sigma: float = 1.2) -> Images:
    blurred = [ndimage.gaussian_filter(image.astype(float), sigma) for image in images]
    return np.stack(blurred).astype(np.uint8)


def brighten(images: Images) -> Images:
    return np.clip(images.astype(float) * 0.9 + 20, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class PlantedSets:
    """Creates image sets with known faults from real images. All sets have equally many images per class.

    ``train`` are images that trained the adapter. ``unseen`` and ``more_unseen`` neither trained anything nor
    are reference images.
    """

    train: ImageSet
    unseen: ImageSet
    more_unseen: ImageSet
    seed: int = 0

    def by_name(self) -> dict[str, ImageSet]:
        """All image sets."""
        (train, train_labels), (unseen, labels) = self.train, self.unseen
        make_images: dict[str, Callable[[], Images]] = {
            "held-out real images": lambda: unseen,
            "training images with noise": lambda: add_noise(train, self.seed),
            "training images, mirrored and brighter": lambda: brighten(train[:, :, ::-1]),
            "a tenth of them training images with noise": self.some_copies,
            "one class only": self.one_class,
            "one image repeated": self.one_image_per_class,
            "blurred": lambda: blur(unseen),
            "inverted": lambda: 255 - unseen,
            "noisy": lambda: add_noise(unseen, self.seed, 20.0),
        }
        copied = ("training images with noise", "training images, mirrored and brighter")
        sets = {
            name: (make(), train_labels if name in copied else labels) for name, make in make_images.items()
        }
        return sets | {"labels swapped": (unseen, 1 - labels)}

    def some_copies(self) -> Images:
        """Every tenth image is a training image with noise."""
        images = self.unseen[0].copy()
        images[::10] = add_noise(self.train[0], self.seed)[::10]
        return images

    def one_class(self) -> Images:
        """Images of class 1 only, also where class 0 is requested."""
        return np.concatenate([images[labels == 1] for images, labels in (self.unseen, self.more_unseen)])

    def one_image_per_class(self) -> Images:
        """The same image for each request of a class."""
        images, labels = self.unseen
        first = [np.flatnonzero(labels == label)[0] for label in labels]
        return images[first]
