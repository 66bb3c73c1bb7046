"""Images with the values that each of them has; all metrics are computed from these."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.grey import chroma as chroma_of
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.judge import Judge
from vdm_pipeline.stages.evaluation.metrics.images import sharpness
from vdm_pipeline.stages.evaluation.real_images import RealImages

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredImages:
    """``n`` images of one size and their values.

    ``images``: uint8 ``[n, h, w]`` or ``[n, h, w, 3]``. ``labels`` ``[n]``: the requested class of a
    generated image, the true one of a real image. ``sharpness`` and ``chroma`` (colour spread): ``[n]``.
    ``probabilities``: the judge's, ``[n, classes]``. ``features``: ``[n, d]`` by space.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sharpness: Floats
    chroma: Floats
    probabilities: Floats
    features: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def agreement(self) -> Floats:
        """1 where the judge predicts the image's class, else 0, ``[n]``."""
        return (self.probabilities.argmax(1) == self.labels).astype(float)

    @property
    def confidence(self) -> Floats:
        """The judge's probability of the image's class, ``[n]``."""
        return self.probabilities[np.arange(len(self)), self.labels]

    def of_class(self, label: int) -> "MeasuredImages":
        """The images of one class."""
        return self.select(np.flatnonzero(self.labels == label))

    def select(self, rows: NDArray[np.intp]) -> "MeasuredImages":
        """The images of these rows."""
        return MeasuredImages(
            images=self.images[rows],
            labels=self.labels[rows],
            sharpness=self.sharpness[rows],
            chroma=self.chroma[rows],
            probabilities=self.probabilities[rows],
            features={name: features[rows] for name, features in self.features.items()},
        )


@dataclass(frozen=True)
class ImageMeasurer:
    """Measures every image of an evaluation with the same judge and feature spaces."""

    judge: Judge
    spaces: Mapping[str, Space]

    def measure(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], chroma: Floats | None = None
    ) -> MeasuredImages:
        """Measure uint8 images ``[n, h, w]`` or ``[n, h, w, 3]``; ``n`` may be 0.

        ``chroma`` is the colour spread ``[n]`` before conversion to grey; without it, that of the
        images.
        """
        empty = np.empty((0, 1))
        return MeasuredImages(
            images=images,
            labels=labels,
            sharpness=sharpness(images),
            chroma=chroma_of(images) if chroma is None else chroma,
            probabilities=self.judge.probabilities(images) if len(images) else empty,
            features={name: space(images) if len(images) else empty for name, space in self.spaces.items()},
        )

    def measure_real(self, real: RealImages) -> MeasuredImages:
        """Measure real images with their true labels."""
        return self.measure(real.images, real.labels)
