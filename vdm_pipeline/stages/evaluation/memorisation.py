"""Are the images new? Their nearest neighbours among the images that the adapter was trained on, and among images it never saw.

A distance by itself says nothing: smooth or typical images lie near to everything. What a copy does, and a typical image does
not, is to lie nearer to the training images than to held-out ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import resize
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.data.near_duplicates import Whitening
from vdm_pipeline.stages.data.quality import image_keys
from vdm_pipeline.stages.evaluation.comparison import with_shares_of
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval
from vdm_pipeline.stages.evaluation.metrics.manifold import distances

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

NEAR, COPY = 5.0, 1.0
"""Percentiles of real images below which an image counts as near to training images, and as a copy of one."""
DIRECTIONS = 64
"""Of the whitened features; the small rest is mostly noise."""
LOOKED_AT = 32
"""Nearest neighbours of an image among which the permutations look for one of each kind; the last stands for a kind that is not there."""
FIGURES = (
    "p_copied",
    "share_near_train",
    "share_near_held_out",
    "copied",
    "ratio",
    "share_nearest_is_train",
    "p",
)
MIRRORED = ", mirrored"
PAIRS = 8
"""Closest pairs that are shown, a space."""


@dataclass(frozen=True)
class Neighbours:
    """Distances from ``n`` images to ``t`` training and ``h`` held-out ones, ``[n, t]`` and ``[n, h]``, from held-out to training
    ones ``[h, t]``, and among held-out ones ``[h, h]``, infinite from an image to itself."""

    to_train: Floats
    to_held_out: Floats
    across: Floats
    within: Floats

    @classmethod
    def of(cls, features: Mapping[str, Floats], name: str) -> "Neighbours":
        """Of the images of that name, from features as `comparable` makes them; a mirrored image counts as the image."""
        pairs = ((name, "train"), (name, "held_out"), ("held_out", "train"), ("held_out", "held_out"))
        found = [
            np.minimum(*(distances(features[a], features[b + side]) for side in ("", MIRRORED)))
            for a, b in pairs
        ]
        np.fill_diagonal(found[3], np.inf)
        return cls(*found)

    def near_train(self) -> float:
        """Distance to the training images that 5 % of the held-out ones fall below."""
        return float(np.percentile(self.across.min(1), NEAR))

    def near_held_out(self) -> float:
        """Distance to the held-out images that 5 % of the training ones fall below."""
        return float(np.percentile(self.across.min(0), NEAR))

    def among(self, held_out: NDArray[np.intp]) -> "Neighbours":
        """With these held-out images alone."""
        return Neighbours(
            self.to_train,
            self.to_held_out[:, held_out],
            self.across[held_out],
            self.within[np.ix_(held_out, held_out)],
        )

    @property
    def ratios(self) -> tuple[Floats, Floats]:
        """Nearest training over nearest held-out distance, of the images ``[n]`` and of the held-out ones themselves ``[h]``."""
        nearest = (self.to_train, self.to_held_out), (self.across, self.within)
        first, second = (train.min(1) / np.maximum(held_out.min(1), 1e-9) for train, held_out in nearest)
        return first, second


def comparable(
    space: Space, train: Images, held_out: Images, others: Mapping[str, Images]
) -> dict[str, Floats]:
    """Whitened unit features of ``train``, ``held_out``, both mirrored, and others, by name.

    The images are halved in side first, so that noise or sharpening hides no copy; the features are whitened by training and
    held-out images together, so that neither is favoured.
    """
    real = {"train": train, "held_out": held_out}
    named = {**real, **{name + MIRRORED: images[:, :, ::-1] for name, images in real.items()}, **others}
    features = {
        name: space(resize(images, images.shape[1] // 2)).astype(np.float32) for name, images in named.items()
    }
    whiten = Whitening.of(np.concatenate([features["train"], features["held_out"]]), DIRECTIONS)
    return {name: whiten(values).astype(np.float64) for name, values in features.items()}


def memorisation(
    near: Neighbours,
    train_labels: NDArray[np.int64],
    held_out_labels: NDArray[np.int64],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Whether images keep closer to training images than to held-out ones; these are thinned to the class shares of the former.

    Else the images of a class with few held-out ones would lie near to training images for want of others. Figures are None
    where a class of the training images has no held-out one.

    ``share_near_train``: images nearer to a training image than 95 % of the held-out images are; .05 is expected of new
    images. ``share_near_held_out``: the same with the two sets exchanged. ``copied``: images whose ratio of nearest training
    to nearest held-out distance is below that of 99 % of the held-out images; .01 is expected, whether they are typical or
    not. ``p_copied``: see `chance_of`. ``share_nearest_is_train``, ``ratio``, ``p``: see `ratio_test`.
    """
    kept = with_shares_of(train_labels, held_out_labels, evaluation.seed)
    sizes = {"n": len(near.to_train), "n_train": len(train_labels), "n_held_out": len(kept)}
    if len(kept) < 2:
        return {**sizes, **dict.fromkeys(FIGURES)}
    train, held_out = matched_rows(train_labels, held_out_labels, evaluation.seed)
    tested = ratio_test(
        near.to_train[:, train], near.to_held_out[:, held_out], evaluation.bootstrap, evaluation.seed
    )
    near = near.among(kept)
    ratios, usual = near.ratios
    limit = np.percentile(usual, COPY)
    copied, below = ratios < limit, int((usual < limit).sum())
    shares = {
        "share_near_train": near.to_train.min(1) < near.near_train(),
        "share_near_held_out": near.to_held_out.min(1) < near.near_held_out(),
        "copied": copied,
    }
    return {
        **sizes,
        "p_copied": chance_of(int(copied.sum()), len(copied), below, len(usual)),
        **{
            name: mean_with_interval(values.astype(float), evaluation.bootstrap, evaluation.seed)
            for name, values in shares.items()
        },
        **tested,
    }


def chance_of(copies: int, n: int, below: int, held_out: int) -> float:
    """Probability that ``copies`` or more of ``n`` new images lie below the limit that ``below`` of the held-out ones do.

    Were new and held-out images exchangeable, the number of new ones below a rank of the held-out ones would have a
    beta-binomial distribution; it allows for how few held-out images the limit stands on.
    """
    from scipy.stats import betabinom

    return float(betabinom.sf(copies - 1, n, below + 1, max(held_out - below, 1)))


def ratio_test(to_train: Floats, to_held_out: Floats, resamples: int, seed: int) -> dict[str, Any]:
    """Distances ``[n, k]`` to as many training and held-out images: are the ``n`` nearer to the former?

    ``ratio``: geometric mean of nearest training over nearest held-out distance, with a bootstrap interval over the images;
    ``share_nearest_is_train``: images whose nearest real image is a training one, .5 for new images; ``p``: how often a
    random half of the real images, called training, is as near. The permutation goes over real images, so that one real image
    which is the neighbour of many generated ones counts once.
    """
    every = np.concatenate([to_train, to_held_out], axis=1)
    kinds = np.arange(every.shape[1]) < to_train.shape[1]
    looked = min(LOOKED_AT, every.shape[1])
    nearest = np.argsort(every, axis=1, kind="stable")[:, :looked]
    logs = np.log(np.maximum(np.take_along_axis(every, nearest, axis=1), 1e-9))
    rows = np.arange(len(every))

    def log_ratio(train: NDArray[np.bool_]) -> Floats:
        there = train[nearest]
        first = [np.where(found.any(1), found.argmax(1), looked - 1) for found in (there, ~there)]
        return logs[rows, first[0]] - logs[rows, first[1]]

    found = log_ratio(kinds)
    rng = np.random.default_rng(seed)
    by_chance = np.array([log_ratio(rng.permutation(kinds)).mean() for _ in range(resamples)])
    interval = mean_with_interval(found, resamples, seed)
    return {
        "ratio": {"value": float(np.exp(interval["value"])), "ci95": np.exp(interval["ci95"]).tolist()},
        "share_nearest_is_train": mean_with_interval(kinds[nearest[:, 0]].astype(float), resamples, seed),
        "p": float(((by_chance <= found.mean() + 1e-12).sum() + 1) / (resamples + 1)),
    }


def matched_rows(
    train: NDArray[np.int64], held_out: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Random rows of both, as many of each class in the one as in the other."""
    rng = np.random.default_rng(seed)
    chosen: tuple[list, list] = ([], [])
    for label in np.union1d(train, held_out):
        both = [rng.permutation(np.flatnonzero(labels == label)) for labels in (train, held_out)]
        count = min(map(len, both))
        for rows, part in zip(chosen, both, strict=True):
            rows.append(part[:count])
    first, second = (np.sort(np.concatenate(rows)) for rows in chosen)
    return first, second


def pixel_copies(images: Images, train: Images) -> int:
    """Images with the pixels of a training image, or of one mirrored; grey as grey."""
    images, train = to_grey(images), to_grey(train)
    known = {*image_keys(train), *image_keys(np.ascontiguousarray(train[:, :, ::-1]))}
    return sum(key in known for key in image_keys(images))


def exact_duplicates(images: Images) -> int:
    """Images with the pixels of an earlier one."""
    return len(images) - len(set(image_keys(images)))


def share_alike(features: Floats, real: Floats, seed: int = 0) -> float | None:
    """Share of images that are nearer to another of them than 95 % of real images are to another one of as many.

    .05 is expected of images as diverse as real ones; ``features`` and ``real`` are as `comparable` makes them. Of the larger
    set a random part is taken. None below 2.
    """
    n = min(len(features), len(real))
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    own, theirs = (values[np.sort(rng.permutation(len(values))[:n])] for values in (features, real))
    return float((_nearest_other(own) < np.percentile(_nearest_other(theirs), NEAR)).mean())


def closest_pairs(near: Neighbours) -> list[dict[str, Any]]:
    """The images that lie nearest to a training image, nearest first.

    ``generated``, ``train`` and ``held_out`` are rows (of the image, and of its nearest neighbours), ``nearness`` is the
    distance to the training image over that which 5 % of the held-out images fall below.
    """
    found = near.to_train.min(1)
    return [
        {
            "generated": int(row),
            "train": int(near.to_train[row].argmin()),
            "held_out": int(near.to_held_out[row].argmin()),
            "nearness": float(found[row] / max(near.near_train(), 1e-9)),
        }
        for row in np.argsort(found, kind="stable")[:PAIRS]
    ]


def _nearest_other(features: Floats) -> Floats:
    within = distances(features, features)
    np.fill_diagonal(within, np.inf)
    return within.min(1)
