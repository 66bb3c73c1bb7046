"""Distances from images to the training images and to held-out real images, in one feature space."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.data.near_duplicates import Whitening
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.metrics.manifold import distances

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

TRAIN, HELD_OUT = "train", "held_out"
MIRRORED = ", mirrored"
DIRECTIONS = 64
"""Whitened components that are kept; the other ones are mostly noise."""
NEAR = 5.0
"""Percentile of real images' distances. An image below it is near."""


def whitened_features(
    space: Space, train: Images, held_out: Images, others: Mapping[str, Images]
) -> dict[str, Floats]:
    """Whitened unit features of ``train``, ``held_out``, both mirrored, and the other images, by name.

    Images are first reduced to half their side, so that noise or sharpening cannot hide a copy. Training
    and held-out images together define the whitening, so that it favours neither.
    """
    real = {TRAIN: train, HELD_OUT: held_out}
    mirrored = {name + MIRRORED: images[:, :, ::-1] for name, images in real.items()}
    features = {
        name: space(resize(images, images.shape[1] // 2)).astype(np.float32)
        for name, images in {**real, **mirrored, **others}.items()
    }
    whiten = Whitening.fit(np.concatenate([features[TRAIN], features[HELD_OUT]]), DIRECTIONS)
    return {name: whiten(values).astype(np.float64) for name, values in features.items()}


@dataclass(frozen=True)
class Neighbours:
    """Distances between ``n`` images, ``t`` training images and ``h`` held-out images.

    ``to_train`` ``[n, t]`` and ``to_held_out`` ``[n, h]`` are of the images, ``held_out_to_train`` ``[h,
    t]`` and ``within_held_out`` ``[h, h]`` of the held-out ones. The distance of an image to itself is
    infinite.
    """

    to_train: Floats
    to_held_out: Floats
    held_out_to_train: Floats
    within_held_out: Floats

    @classmethod
    def from_features(cls, features: Mapping[str, Floats], name: str) -> "Neighbours":
        """Of the images of that name, from `whitened_features`. A mirrored real image counts as the image."""
        within_held_out = _distances(features, HELD_OUT, HELD_OUT)
        np.fill_diagonal(within_held_out, np.inf)
        return cls(
            to_train=_distances(features, name, TRAIN),
            to_held_out=_distances(features, name, HELD_OUT),
            held_out_to_train=_distances(features, HELD_OUT, TRAIN),
            within_held_out=within_held_out,
        )

    def near_train_distance(self) -> float:
        """5 % of the held-out images are closer than this to a training image."""
        return float(np.percentile(self.held_out_to_train.min(1), NEAR))

    def near_held_out_distance(self) -> float:
        """5 % of the training images are closer than this to a held-out image."""
        return float(np.percentile(self.held_out_to_train.min(0), NEAR))

    def with_held_out(self, rows: NDArray[np.intp]) -> "Neighbours":
        """Only with these held-out images."""
        return Neighbours(
            self.to_train,
            self.to_held_out[:, rows],
            self.held_out_to_train[rows],
            self.within_held_out[np.ix_(rows, rows)],
        )

    def ratios(self) -> Floats:
        """Nearest training over nearest held-out distance of the images, ``[n]``."""
        return _ratios(self.to_train, self.to_held_out)

    def held_out_ratios(self) -> Floats:
        """The same of the held-out images, ``[h]``."""
        return _ratios(self.held_out_to_train, self.within_held_out)


def _distances(features: Mapping[str, Floats], name: str, real: str) -> Floats:
    """Distances to real images or their mirror images, whichever is closer."""
    to_images = distances(features[name], features[real])
    to_mirrored = distances(features[name], features[real + MIRRORED])
    return np.minimum(to_images, to_mirrored)


def _ratios(to_train: Floats, to_held_out: Floats) -> Floats:
    return to_train.min(1) / np.maximum(to_held_out.min(1), 1e-9)
