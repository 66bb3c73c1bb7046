"""Distances to training and held-out images, and the features they are computed from."""

import numpy as np
import pytest

from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.metrics.manifold import distances
from vdm_pipeline.stages.evaluation.neighbours import Neighbours, whitened_features
from vdm_pipeline_tests.stages.evaluation.points import neighbours_of, points


def flatten(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def random_images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(n, 8, 8), dtype=np.uint8)


def test_near_is_closer_than_all_but_five_percent_of_the_real_images():
    near = neighbours_of(points(5, 3))
    to_train = near.held_out_to_train
    assert (to_train.min(1) < near.near_train_distance()).mean() == pytest.approx(0.05, abs=0.01)
    assert (to_train.min(0) < near.near_held_out_distance()).mean() == pytest.approx(0.05, abs=0.01)
    assert to_train.shape == (120, 120)
    np.testing.assert_allclose(to_train[3, 7], np.linalg.norm(points(120, 2)[3] - points(120, 1)[7]))


def test_a_held_out_image_is_not_its_own_neighbour():
    near = neighbours_of(points(5, 3))
    assert np.isinf(np.diagonal(near.within_held_out)).all()
    part = near.with_held_out(np.array([4, 9]))
    assert part.within_held_out[0, 1] == near.within_held_out[4, 9]
    assert part.to_held_out.shape == (5, 2)


def test_images_are_halved_and_whitened_by_both_real_sets():
    train, held_out, other = (random_images(30, seed) for seed in range(3))
    shapes = []

    def embed(images: np.ndarray) -> np.ndarray:
        shapes.append(images.shape)
        return flatten(images)

    space = Space("pixels", embed)
    features = whitened_features(space, train, held_out, {"other": other})
    assert shapes == [(30, 4, 4)] * 5
    assert set(features) == {"train", "held_out", "other", "train, mirrored", "held_out, mirrored"}
    assert all(len(values) == 30 for values in features.values())
    np.testing.assert_allclose(np.linalg.norm(features["other"], axis=1), 1, rtol=1e-5)
    exchanged = whitened_features(space, held_out, train, {"other": other})
    to_train = distances(features["other"], features["train"])
    to_train_exchanged = distances(exchanged["other"], exchanged["held_out"])
    np.testing.assert_allclose(to_train, to_train_exchanged, rtol=1e-3)


def test_a_mirrored_copy_is_close_to_its_original():
    train, held_out = random_images(30, 0), random_images(30, 1)
    copies = train[:3, :, ::-1]
    features = whitened_features(Space("pixels", flatten), train, held_out, {"copies": copies})
    near = Neighbours.from_features(features, "copies")
    assert near.to_train.argmin(1).tolist() == [0, 1, 2]
    assert near.to_train.min(1) == pytest.approx(np.zeros(3), abs=1e-3)
    assert near.to_held_out.min() > 0.5
