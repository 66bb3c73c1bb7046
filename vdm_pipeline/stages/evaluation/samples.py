"""What is measured of images one by one; everything else is computed from it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.grey import chroma
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.judge import Judge
from vdm_pipeline.stages.evaluation.metrics.images import sharpness

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """``n`` images of one size and what each of them has.

    ``images`` uint8 ``[n, h, w]`` or ``[n, h, w, 3]``, ``labels`` the class that was asked for, or the true one, and of each
    image its sharpness, its colour spread, and the judge's probability of every class ``[n, classes]``; ``spaces`` holds the
    features ``[n, d]`` by space.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sharpness: Floats
    chroma: Floats
    judged: Floats
    spaces: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def agreement(self) -> Floats:
        """1 where the judge's class is the image's, else 0, ``[n]``."""
        return (self.judged.argmax(1) == self.labels).astype(float)

    @property
    def confidence(self) -> Floats:
        """The judge's probability of the image's class, ``[n]``."""
        return self.judged[np.arange(len(self)), self.labels]

    def rows(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Sample":
        """A part of the sample."""
        parts = {
            field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "spaces"
        }
        return Sample(**parts, spaces={name: features[rows] for name, features in self.spaces.items()})


@dataclass(frozen=True)
class Measures:
    """The judge and the feature spaces that every image of a comparison meets."""

    judge: Judge
    spaces: Mapping[str, Space]

    def of(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], colour: Floats | None = None
    ) -> Sample:
        """Measure uint8 images ``[n, h, w]`` or ``[n, h, w, 3]``, or none; ``colour`` is their chroma before they were made grey."""
        nothing = np.empty((0, 1))
        return Sample(
            images=images,
            labels=labels,
            sharpness=sharpness(images),
            chroma=chroma(images) if colour is None else colour,
            judged=self.judge.probabilities(images) if len(images) else nothing,
            spaces={name: space(images) if len(images) else nothing for name, space in self.spaces.items()},
        )
