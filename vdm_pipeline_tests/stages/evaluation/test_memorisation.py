"""Copies are told from what is merely typical, by definition and on planted neighbours."""

import numpy as np
import pytest

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.memorisation import (
    Neighbours,
    chance_of,
    closest_pairs,
    comparable,
    exact_duplicates,
    matched_rows,
    memorisation,
    pixel_copies,
    ratio_test,
    share_alike,
)
from vdm_pipeline.stages.evaluation.metrics.manifold import distances

EVALUATION = Evaluation(bootstrap=200)
CLASSES = np.repeat([0, 1], 60)


def cloud(n: int, seed: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, d))


def neighbours(images: np.ndarray) -> Neighbours:
    far = np.full((1, images.shape[1]), 1e6)  # what is mirrored plays no part here
    real = {"train": cloud(120, 1), "held_out": cloud(120, 2)}
    return Neighbours.of(
        {"images": images, **real, **{f"{name}, mirrored": np.repeat(far, 120, axis=0) for name in real}},
        "images",
    )


def test_new_images_are_as_near_to_train_as_to_held_out_ones():
    found = memorisation(neighbours(cloud(400, 3)), CLASSES, CLASSES, EVALUATION)
    assert abs(found["copied"]["value"]) < 0.02
    assert found["p_copied"] > 0.01
    assert found["ratio"]["value"] == pytest.approx(1, abs=0.05)
    assert found["share_nearest_is_train"]["value"] == pytest.approx(0.5, abs=0.15)
    assert found["p"] > 0.05
    assert (found["n"], found["n_train"], found["n_held_out"]) == (400, 120, 120)


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_copies_are_found_and_counted(share):
    images = cloud(120, 3)
    copied = int(120 * share)
    images[:copied] = cloud(120, 1)[:copied] + 0.1 * cloud(copied, 4)
    found = memorisation(neighbours(images), CLASSES, CLASSES, EVALUATION)
    assert found["copied"]["value"] == pytest.approx(share, abs=0.04)
    assert max(found["p"], found["p_copied"]) < 0.01
    assert found["ratio"]["ci95"][1] < 1


def test_one_training_image_copied_often_is_copied():
    images = np.repeat(cloud(120, 1)[:1], 100, axis=0) + 0.1 * cloud(100, 4)
    found = memorisation(neighbours(images), CLASSES, CLASSES, EVALUATION)
    assert found["copied"]["value"] == pytest.approx(1, abs=0.02)
    assert found["p_copied"] < 1e-6


@pytest.mark.parametrize(("copies", "below", "held_out"), [(0, 1, 100), (3, 1, 100), (5, 4, 60)])
def test_chance_of_copies_against_draws(copies, below, held_out):
    draws = np.random.default_rng(0).random((4000, 50 + held_out))
    limits = np.sort(draws[:, 50:], axis=1)[:, below]
    expected = ((draws[:, :50] < limits[:, None]).sum(1) >= copies).mean()
    assert chance_of(copies, 50, below, held_out) == pytest.approx(expected, abs=0.03)


def test_copies_of_held_out_images_are_none_of_training_images():
    found = memorisation(neighbours(cloud(120, 2) + 0.1 * cloud(120, 4)), CLASSES, CLASSES, EVALUATION)
    assert found["copied"]["value"] < 0.02
    assert found["p"] > 0.9


def test_typical_images_are_near_to_both_and_copy_neither():
    found = memorisation(neighbours(0.2 * cloud(300, 3)), CLASSES, CLASSES, EVALUATION)
    assert found["share_near_train"]["value"] > 0.2
    assert found["copied"]["ci95"][0] < 0.05
    assert found["p"] > 0.01


def test_near_is_what_five_percent_of_held_out_images_are():
    near = neighbours(cloud(5, 3))
    assert (near.across.min(1) < near.near_train()).mean() == pytest.approx(0.05, abs=0.01)
    assert (near.across.min(0) < near.near_held_out()).mean() == pytest.approx(0.05, abs=0.01)
    assert near.across.shape == (120, 120)
    np.testing.assert_allclose(near.across[3, 7], np.linalg.norm(cloud(120, 2)[3] - cloud(120, 1)[7]))


def test_ratio_against_the_definition():
    to_train, to_held_out = distances(cloud(30, 3), cloud(50, 1)), distances(cloud(30, 3), cloud(50, 2))
    found = ratio_test(to_train, to_held_out, 100, 0)
    nearest = to_train.min(1), to_held_out.min(1)
    assert found["ratio"]["value"] == pytest.approx(np.exp(np.mean(np.log(nearest[0] / nearest[1]))))
    assert found["share_nearest_is_train"]["value"] == pytest.approx((nearest[0] < nearest[1]).mean())


def test_p_against_permutations_over_all_neighbours():
    to_train, to_held_out = distances(cloud(30, 3), cloud(40, 1)), distances(cloud(30, 3), cloud(40, 2))
    every, rng, kinds = (
        np.hstack([to_train, to_held_out]),
        np.random.default_rng(9),
        np.repeat([True, False], 40),
    )

    def log_ratio(train: np.ndarray) -> float:
        return float(np.log(every[:, train].min(1) / every[:, ~train].min(1)).mean())

    by_chance = [log_ratio(rng.permutation(kinds)) for _ in range(4000)]
    expected = np.mean([value <= log_ratio(kinds) for value in by_chance])
    assert ratio_test(to_train, to_held_out, 4000, 0)["p"] == pytest.approx(expected, abs=0.03)


def test_p_is_even_where_nothing_is_copied():
    ps = [
        ratio_test(
            distances(x := cloud(20, 3 * i), cloud(30, 3 * i + 1)), distances(x, cloud(30, 3 * i + 2)), 99, i
        )["p"]
        for i in range(200)
    ]
    assert np.mean(np.array(ps) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(ps) == pytest.approx(0.5, abs=0.07)


def test_one_real_image_that_is_near_to_all_is_no_proof():
    train, held_out, images = cloud(40, 1), cloud(40, 2), 0.3 * cloud(200, 3)
    train[0] = 0  # in the middle, so the neighbour of very many
    found = ratio_test(distances(images, train), distances(images, held_out), 400, 0)
    assert found["share_nearest_is_train"]["value"] > 0.8
    assert found["p"] > 0.01  # that of a coin for each image would be below 1e-20


def test_as_many_of_each_class_are_compared():
    train, held_out = np.repeat([0, 1, 2], [5, 9, 2]), np.repeat([0, 1], [7, 3])
    rows = matched_rows(train, held_out, 0)
    assert np.bincount(train[rows[0]]).tolist() == np.bincount(held_out[rows[1]]).tolist() == [5, 3]


def test_the_ratio_is_to_as_many_training_images_as_held_out_ones_of_each_class():
    many = np.concatenate([cloud(120, 1), cloud(600, 5)])
    real = {
        "train": many,
        "held_out": cloud(120, 2),
        "train, mirrored": many + 1e6,
        "held_out, mirrored": cloud(120, 2) + 1e6,
    }
    near = Neighbours.of({"images": cloud(300, 3), **real}, "images")
    found = memorisation(near, np.concatenate([CLASSES, np.zeros(600, int)]), CLASSES, EVALUATION)
    assert found["n_train"] == 720
    assert found["share_nearest_is_train"]["value"] == pytest.approx(0.5, abs=0.15)
    assert found["ratio"]["value"] == pytest.approx(1, abs=0.08)


def test_closest_pairs_name_their_neighbours_nearest_first():
    images = cloud(20, 3)
    images[7], images[11] = cloud(120, 1)[30] + 0.01, cloud(120, 1)[5] + 0.1
    pairs = closest_pairs(neighbours(images))
    assert [(pair["generated"], pair["train"]) for pair in pairs[:2]] == [(7, 30), (11, 5)]
    assert pairs[0]["held_out"] == distances(images[7:8], cloud(120, 2)).argmin()
    nearness = [pair["nearness"] for pair in pairs]
    assert nearness == sorted(nearness)
    assert nearness[0] == pytest.approx(0.01 * 8**0.5 / neighbours(images).near_train())


def test_images_are_halved_and_whitened_by_both_real_sets():
    rng = np.random.default_rng(0)
    sets = {
        name: rng.integers(256, size=(30, 8, 8), dtype=np.uint8) for name in ("train", "held_out", "other")
    }
    seen = []
    space = Space("pixels", lambda images: (seen.append(images.shape), images.reshape(len(images), -1))[1])
    found = comparable(space, sets["train"], sets["held_out"], {"other": sets["other"]})
    assert seen == [(30, 4, 4)] * 5
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        [*sets, "train, mirrored", "held_out, mirrored"], 30
    )
    np.testing.assert_allclose(np.linalg.norm(found["other"], axis=1), 1, rtol=1e-5)
    turned = comparable(space, sets["held_out"], sets["train"], {"other": sets["other"]})
    np.testing.assert_allclose(
        distances(found["other"], found["train"]), distances(turned["other"], turned["held_out"]), rtol=1e-3
    )


def test_a_mirrored_copy_is_a_copy():
    rng = np.random.default_rng(0)
    sets = {name: rng.integers(256, size=(30, 8, 8), dtype=np.uint8) for name in ("train", "held_out")}
    space = Space("pixels", lambda images: images.reshape(len(images), -1))
    near = Neighbours.of(comparable(space, **sets, others={"mine": sets["train"][:3, :, ::-1]}), "mine")
    assert near.to_train.argmin(1).tolist() == [0, 1, 2]
    assert near.to_train.min(1) == pytest.approx(np.zeros(3), abs=1e-3)
    assert near.to_held_out.min() > 0.5


def test_duplicates_are_counted():
    images = np.random.default_rng(0).integers(256, size=(5, 4, 4), dtype=np.uint8)
    assert exact_duplicates(images) == 0
    assert exact_duplicates(images[[0, 1, 0, 0, 2]]) == 2
    assert share_alike(cloud(300, 1), cloud(300, 2)) == pytest.approx(0.05, abs=0.03)
    assert share_alike(np.repeat(cloud(10, 1), 30, axis=0), cloud(300, 2)) == 1
    assert share_alike(cloud(1, 1), cloud(300, 2)) is None


def test_a_class_with_few_held_out_images_makes_no_copies_of_new_ones():
    """By all held-out images, new ones of a class that has few would lie near to training images for want of others."""
    classes = np.repeat([0, 1], 200)
    centres = np.where(classes[:, None] == 0, -6.0, 6.0)
    train, images = cloud(400, 1) + centres, cloud(400, 3) + centres
    kept = np.r_[:15, 200:400]
    held_out, far = (cloud(400, 2) + centres)[kept], np.full((1, 8), 1e6)
    features = {"train": train, "held_out": held_out, "images": images, "train, mirrored": far + 0 * train}
    found = memorisation(
        Neighbours.of(features | {"held_out, mirrored": far + 0 * held_out}, "images"),
        classes,
        classes[kept],
        EVALUATION,
    )
    assert found["n_held_out"] == 30
    assert found["p_copied"] > 0.01


def test_nothing_is_told_where_a_class_has_no_held_out_image():
    found = memorisation(neighbours(cloud(10, 3)), CLASSES, np.zeros(120, int), EVALUATION)
    assert (found["n"], found["n_train"], found["n_held_out"]) == (10, 120, 0)
    assert found["copied"] is found["p_copied"] is found["ratio"] is None


def test_pixels_of_training_images_are_found_mirrored_and_in_colour():
    train = np.random.default_rng(0).integers(256, size=(5, 8, 8), dtype=np.uint8)
    images = np.stack([train[3], train[1][:, ::-1], train[0] ^ 1, train[2].T])
    assert pixel_copies(images, train) == pixel_copies(np.repeat(images[..., None], 3, axis=3), train) == 2


def test_each_share_near_is_by_the_limit_of_its_side():
    train, held_out, images = cloud(120, 1), 0.3 * cloud(120, 2), 0.7 * cloud(200, 3)
    apart = [
        distances(images, train),
        distances(images, held_out),
        distances(held_out, train),
        distances(held_out, held_out),
    ]
    np.fill_diagonal(apart[3], np.inf)
    found = memorisation(Neighbours(*apart), CLASSES, CLASSES, EVALUATION)
    near_train = apart[0].min(1) < np.percentile(apart[2].min(1), 5)
    near_held_out = apart[1].min(1) < np.percentile(apart[2].min(0), 5)
    assert found["share_near_train"]["value"] == pytest.approx(near_train.mean())
    assert found["share_near_held_out"]["value"] == pytest.approx(near_held_out.mean())
    assert near_held_out.mean() != (apart[1].min(1) < np.percentile(apart[2].min(1), 5)).mean()
