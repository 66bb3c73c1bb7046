"""Duplicates among images, and images with the pixels of a training image."""

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.data.quality import image_hashes
from vdm_pipeline.stages.evaluation.metrics.manifold import distances
from vdm_pipeline.stages.evaluation.neighbours import NEAR

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]


def pixel_copies(images: Images, train: Images) -> int:
    """Number of images with the pixels of a training image or of its mirror image, compared in grey."""
    images, train = to_grey(images), to_grey(train)
    known = {*image_hashes(train), *image_hashes(np.ascontiguousarray(train[:, :, ::-1]))}
    return sum(key in known for key in image_hashes(images))


def exact_duplicates(images: Images) -> int:
    """Number of images with the pixels of an earlier one."""
    return len(images) - len(set(image_hashes(images)))


def share_alike(features: Floats, real: Floats, seed: int = 0) -> float | None:
    """Share of images that are closer to another one than 95 % of the real images are to another one.

    Images as diverse as real ones: 0.05. ``features`` and ``real`` are from `whitened_features`. The larger
    set is reduced to the size of the smaller one at random. None below 2 images.
    """
    n = min(len(features), len(real))
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    nearest = _nearest_other(_random_rows(features, n, rng))
    nearest_real = _nearest_other(_random_rows(real, n, rng))
    return float((nearest < np.percentile(nearest_real, NEAR)).mean())


def _random_rows(features: Floats, n: int, rng: np.random.Generator) -> Floats:
    return features[np.sort(rng.permutation(len(features))[:n])]


def _nearest_other(features: Floats) -> Floats:
    """Distance of each image to the nearest other one, ``[n]``."""
    within = distances(features, features)
    np.fill_diagonal(within, np.inf)
    return within.min(1)
