"""Outlier test: is a single image much closer to one training image than chance explains?

The share of copies does not show one copy among hundreds of images. This test looks at each image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.evaluation.class_matching import rows_with_class_shares
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.metrics.tail import MIN_SAMPLE, tail_limit
from vdm_pipeline.stages.evaluation.neighbours import Neighbours
from vdm_pipeline.stages.evaluation.pixels import (
    PixelSpace,
    describe_orientation,
    distances_in_any_orientation,
)
from vdm_pipeline.stages.evaluation.results import SingleCopies, SingleCopy

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]
LabelledImages = tuple[Images, NDArray[np.int64]]

FALSE_ALARM_RATE = 0.001
"""Probability of an alarm in a run without copies, over all images of all arms (Bonferroni).

It leaves room for what the model does not cover: up to 0.005 was measured, see docs/evaluation.md.
"""
PROBE_NOISE = 0.03
"""Noise of the copies that measure the sensitivity: its std as a share of the range of grey levels."""
MAX_PROBES = 400


@dataclass(frozen=True)
class RealPixels:
    """The space, with features of ``t`` training images ``[t, d]`` and ``h`` held-out images ``[h, d]``."""

    space: PixelSpace
    train: Floats
    held_out: Floats
    held_out_flipped: Floats

    @classmethod
    def of(cls, train: Images, held_out: Images) -> "RealPixels":
        """Fit the space to both, so that it favours neither."""
        space = PixelSpace(np.concatenate([train, held_out]))
        return cls(space, space(train), space(held_out), space.flipped(held_out))

    def neighbours(self, flipped: Floats) -> Neighbours:
        """Of images with these features ``[4, n, d]``."""
        within_held_out = distances_in_any_orientation(self.held_out_flipped, self.held_out)
        np.fill_diagonal(within_held_out, np.inf)
        return Neighbours(
            to_train=distances_in_any_orientation(flipped, self.train),
            to_held_out=distances_in_any_orientation(flipped, self.held_out),
            held_out_to_train=distances_in_any_orientation(self.held_out_flipped, self.train),
            within_held_out=within_held_out,
        )


def find_single_copies(
    arms: Mapping[str, Images],
    train: LabelledImages,
    held_out: LabelledImages,
    names: ImageNames,
    seed: int,
) -> SingleCopies:
    """The images of all arms whose distance ratio is below `ratio_limit`, closest first.

    The ratio is the distance to the nearest training image over that to the nearest held-out one, both by
    pixels in any orientation. Held-out images are left out until their class shares match those of the
    training images. ``sensitivity`` is the share of training images whose copy with noise would be found.
    Limit and sensitivity are None with too few held-out images.
    """
    (train_images, train_labels), (held_out_images, held_out_labels) = train, held_out
    kept = rows_with_class_shares(train_labels, held_out_labels, seed)
    n = sum(map(len, arms.values()))
    if len(kept) < MIN_SAMPLE or not n:
        return SingleCopies(FALSE_ALARM_RATE, n, len(kept), None, None, [])
    real = RealPixels.of(train_images, held_out_images[kept])
    probes = real.neighbours(real.space.flipped(_noisy_copies(train_images, seed)))
    limit = ratio_limit(probes.held_out_ratios(), n)
    found = [
        copy
        for arm, images in arms.items()
        for copy in _copies_in_arm(arm, real, real.space.flipped(images), limit, names, kept)
    ]
    return SingleCopies(
        FALSE_ALARM_RATE,
        n,
        len(kept),
        limit,
        float((probes.ratios() < limit).mean()),
        sorted(found, key=lambda copy: copy.ratio),
    )


def ratio_limit(held_out_ratios: Floats, n: int) -> float:
    """The ratio below which one of ``n`` new images is with a probability of at most `FALSE_ALARM_RATE`.

    ``held_out_ratios`` ``[h]`` are those of the held-out images. The number of real images within a small
    distance x of an image grows as a power of x, its local intrinsic dimension (Amsaleg et al., 2015). So the
    log of the ratio of two nearest distances is logistic, and its tails are exponential.
    """
    logs = -np.log(np.maximum(held_out_ratios, 1e-9))
    return float(np.exp(-tail_limit(logs, FALSE_ALARM_RATE / n)))


def _noisy_copies(images: Images, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    chosen = images[rng.permutation(len(images))[:MAX_PROBES]]
    noisy = chosen + rng.normal(0, PROBE_NOISE * 255, chosen.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def _copies_in_arm(
    arm: str, real: RealPixels, flipped: Floats, limit: float, names: ImageNames, kept: NDArray[np.intp]
) -> list[SingleCopy]:
    """The copies among images with the features ``flipped`` ``[4, n, d]``."""
    near = real.neighbours(flipped)
    ratios, nearest = near.ratios(), near.to_train.argmin(1)
    return [
        SingleCopy(
            arm=arm,
            file_name=names.generated[row],
            train_image=names.train[nearest[row]],
            held_out_image=names.held_out[kept[near.to_held_out[row].argmin()]],
            orientation=describe_orientation(flipped[:, row], real.train[nearest[row]]),
            ratio=float(ratios[row]),
        )
        for row in np.flatnonzero(ratios < limit).tolist()
    ]
