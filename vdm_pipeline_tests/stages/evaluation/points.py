"""Random points as the features of images."""

import numpy as np

from vdm_pipeline.stages.evaluation.neighbours import Neighbours

FAR = 1e6
"""Distance at which mirrored images have no effect."""


def points(n: int, seed: int, d: int = 8) -> np.ndarray:
    """Standard normal points ``[n, d]``."""
    return np.random.default_rng(seed).normal(0, 1, (n, d))


def neighbours_of(
    images: np.ndarray, train: np.ndarray | None = None, held_out: np.ndarray | None = None
) -> Neighbours:
    """Neighbours of the images among 120 random training and 120 random held-out points, or those given."""
    train = points(120, 1) if train is None else train
    held_out = points(120, 2) if held_out is None else held_out
    features = {
        "images": images,
        "train": train,
        "held_out": held_out,
        "train, mirrored": np.full_like(train, FAR),
        "held_out, mirrored": np.full_like(held_out, FAR),
    }
    return Neighbours.from_features(features, "images")
