"""Search every arm for copies of training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.arms import REAL
from vdm_pipeline.stages.evaluation.duplicates import exact_duplicates, pixel_copies, share_alike
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.measured_images import MeasuredImages
from vdm_pipeline.stages.evaluation.memorisation import memorisation
from vdm_pipeline.stages.evaluation.neighbours import Neighbours, whitened_features
from vdm_pipeline.stages.evaluation.results import (
    ArmMemorisation,
    ClosestPair,
    Duplicates,
    Memorisation,
    SpaceMemorisation,
)
from vdm_pipeline.stages.evaluation.single_copies import find_single_copies

MAX_PAIRS = 8
"""Closest pairs that are listed per space."""


@dataclass(frozen=True)
class SpaceSearch:
    """Results of all arms in one space."""

    memorisation: Mapping[str, SpaceMemorisation]
    share_alike: Mapping[str, float | None]
    closest: Sequence[ClosestPair]


def search_copies(
    arms: Mapping[str, MeasuredImages],
    train: MeasuredImages,
    held_out: MeasuredImages,
    names: ImageNames,
    spaces: Mapping[str, Space],
    evaluation: Evaluation,
) -> Memorisation:
    """Measure memorisation in each space, count duplicates, and list the closest pairs and single copies.

    Arms without images are left out. The arm ``real`` is optional, and not searched for single copies.
    """
    arms = {name: arm for name, arm in arms.items() if len(arm)}
    searches = {
        name: _search_space(space, arms, train, held_out, names, evaluation) for name, space in spaces.items()
    }
    return Memorisation(
        arms={name: _arm_memorisation(name, arm, train, searches) for name, arm in arms.items()},
        closest={name: search.closest for name, search in searches.items()},
        single_copies=find_single_copies(
            {name: arm.images for name, arm in arms.items() if name != REAL},
            (train.images, train.labels),
            (held_out.images, held_out.labels),
            names,
            evaluation.seed,
        ),
    )


def _arm_memorisation(
    name: str, arm: MeasuredImages, train: MeasuredImages, searches: Mapping[str, SpaceSearch]
) -> ArmMemorisation:
    duplicates = Duplicates(
        exact=exact_duplicates(arm.images),
        of_training=pixel_copies(arm.images, train.images),
        share_alike={space: search.share_alike[name] for space, search in searches.items()},
    )
    return ArmMemorisation(
        duplicates, {space: search.memorisation[name] for space, search in searches.items()}
    )


def _search_space(
    space: Space,
    arms: Mapping[str, MeasuredImages],
    train: MeasuredImages,
    held_out: MeasuredImages,
    names: ImageNames,
    evaluation: Evaluation,
) -> SpaceSearch:
    images = {name: arm.images for name, arm in arms.items()}
    features = whitened_features(space, train.images, held_out.images, images)
    memorised, alike, pairs = {}, {}, []
    for arm in arms:
        near = Neighbours.from_features(features, arm)
        memorised[arm] = memorisation(near, train.labels, held_out.labels, evaluation)
        alike[arm] = share_alike(features[arm], features[REAL]) if REAL in features else None
        if arm != REAL:
            pairs += closest_pairs(near, arm, names)
    closest = sorted(pairs, key=lambda pair: pair.nearness)[:MAX_PAIRS]
    return SpaceSearch(memorised, alike, closest)


def closest_pairs(near: Neighbours, arm: str, names: ImageNames) -> list[ClosestPair]:
    """The images of an arm that are closest to a training image, closest first."""
    nearest, limit = near.to_train.min(1), max(near.near_train_distance(), 1e-9)
    return [
        ClosestPair(
            arm=arm,
            file_name=names.generated[row],
            train_image=names.train[near.to_train[row].argmin()],
            held_out_image=names.held_out[near.to_held_out[row].argmin()],
            nearness=float(nearest[row] / limit),
        )
        for row in np.argsort(nearest, kind="stable")[:MAX_PAIRS]
    ]
