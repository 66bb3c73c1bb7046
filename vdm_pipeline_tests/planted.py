"""Generators whose faults are known: each returns images in the place of a model's, with the classes that were asked for."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Images = np.ndarray
Labels = np.ndarray
Set = tuple[Images, Labels]

NOISE = 6.0
"""Grey levels on top of a copy: hardly seen, and no pixel is the same."""


def noisy(images: Images, seed: int, deviation: float = NOISE) -> Images:
    noise = np.random.default_rng(seed).normal(0, deviation, images.shape)
    return np.clip(np.round(images + noise), 0, 255).astype(np.uint8)


def blurred(images: Images) -> Images:
    return np.stack([ndimage.gaussian_filter(image.astype(float), 1.2).astype(np.uint8) for image in images])


@dataclass(frozen=True)
class Planted:
    """Real images to draw from, each ``(uint8 [n, h, w], labels [n])``, as many of each class in all.

    ``copied`` are training images, ``new`` real images that neither trained anything nor serve as a reference, ``other`` more
    of these.
    """

    copied: Set
    new: Set
    other: Set
    seed: int = 0

    def all(self) -> dict[str, Set]:
        """Every generator's images by its name."""
        makers: dict[str, Callable[[], Set]] = {
            "held-out real images": lambda: self.new,
            "training images with noise": lambda: (noisy(self.copied[0], self.seed), self.copied[1]),
            "training images, mirrored and brighter": lambda: (
                self.brighter(self.copied[0][:, :, ::-1]),
                self.copied[1],
            ),
            "a tenth of them training images with noise": self.partly_copied,
            "one class only": self.one_class,
            "one image repeated": self.one_image,
            "blurred": lambda: (blurred(self.new[0]), self.new[1]),
            "inverted": lambda: (255 - self.new[0], self.new[1]),
            "noisy": lambda: (noisy(self.new[0], self.seed, 20.0), self.new[1]),
            "labels swapped": lambda: (self.new[0], 1 - self.new[1]),
        }
        return {name: make() for name, make in makers.items()}

    def brighter(self, images: Images) -> Images:
        return np.clip(images.astype(float) * 0.9 + 20, 0, 255).astype(np.uint8)

    def partly_copied(self) -> Set:
        images = self.new[0].copy()
        images[::10] = noisy(self.copied[0], self.seed)[::10]
        return images, self.new[1]

    def one_class(self) -> Set:
        """Class 1, whatever is asked for."""
        sick = np.concatenate([images[labels == 1] for images, labels in (self.new, self.other)])
        return sick, self.new[1]

    def one_image(self) -> Set:
        """The same image each time a class is asked for."""
        first = [np.flatnonzero(self.new[1] == label)[0] for label in self.new[1]]
        return self.new[0][first], self.new[1]
