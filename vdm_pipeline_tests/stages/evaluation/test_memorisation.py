"""Memorisation by its definition, and on points that are copies, typical or new."""

import numpy as np
import pytest

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.memorisation import copied_p, memorisation, ratio_test
from vdm_pipeline.stages.evaluation.metrics.manifold import distances
from vdm_pipeline.stages.evaluation.neighbours import Neighbours
from vdm_pipeline.stages.evaluation.results import CopyFigures
from vdm_pipeline_tests.stages.evaluation.points import neighbours_of, points

EVALUATION = Evaluation(bootstrap=200)
CLASSES = np.repeat([0, 1], 60)


def figures_of(images: np.ndarray) -> CopyFigures:
    return memorisation(neighbours_of(images), CLASSES, CLASSES, EVALUATION).figures


def noise(n: int) -> np.ndarray:
    return 0.1 * points(n, 4)


def test_new_images_are_as_close_to_train_as_to_held_out_images():
    result = memorisation(neighbours_of(points(400, 3)), CLASSES, CLASSES, EVALUATION)
    assert (result.n, result.n_train, result.n_held_out) == (400, 120, 120)
    assert abs(result.figures.copied.value) < 0.02
    assert result.figures.p_copied > 0.01
    assert result.figures.ratio.value == pytest.approx(1, abs=0.05)
    assert result.figures.share_nearest_is_train.value == pytest.approx(0.5, abs=0.15)
    assert result.figures.p > 0.05


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_copies_are_found_and_counted(share):
    images = points(120, 3)
    copied = int(120 * share)
    images[:copied] = points(120, 1)[:copied] + noise(copied)
    result = figures_of(images)
    assert result.copied.value == pytest.approx(share, abs=0.04)
    assert max(result.p, result.p_copied) < 0.01
    assert result.ratio.ci95[1] < 1


def test_many_copies_of_one_training_image_are_copies():
    result = figures_of(np.repeat(points(120, 1)[:1], 100, axis=0) + noise(100))
    assert result.copied.value == pytest.approx(1, abs=0.02)
    assert result.p_copied < 1e-6


def test_copies_of_held_out_images_are_not_copies_of_training_images():
    result = figures_of(points(120, 2) + noise(120))
    assert result.copied.value < 0.02
    assert result.p > 0.9


def test_typical_images_are_close_to_both_sets_and_not_copies():
    result = figures_of(0.2 * points(300, 3))
    assert result.share_near_train.value > 0.2
    assert result.copied.ci95[0] < 0.05
    assert result.p > 0.01


@pytest.mark.parametrize(("copies", "below", "held_out"), [(0, 1, 100), (3, 1, 100), (5, 4, 60)])
def test_p_of_copies_against_simulation(copies, below, held_out):
    ranks = np.random.default_rng(0).random((4000, 50 + held_out))
    limits = np.sort(ranks[:, 50:], axis=1)[:, below]
    expected = ((ranks[:, :50] < limits[:, None]).sum(1) >= copies).mean()
    assert copied_p(copies, 50, below, held_out) == pytest.approx(expected, abs=0.03)


def test_ratio_against_the_definition():
    to_train, to_held_out = distances(points(30, 3), points(50, 1)), distances(points(30, 3), points(50, 2))
    result = ratio_test(to_train, to_held_out, 100, 0)
    nearest_train, nearest_held_out = to_train.min(1), to_held_out.min(1)
    ratio = np.exp(np.mean(np.log(nearest_train / nearest_held_out)))
    assert result["ratio"].value == pytest.approx(ratio)
    assert result["share_nearest_is_train"].value == pytest.approx((nearest_train < nearest_held_out).mean())


def test_p_against_permutations_over_all_neighbours():
    to_train, to_held_out = distances(points(30, 3), points(40, 1)), distances(points(30, 3), points(40, 2))
    both, is_train = np.hstack([to_train, to_held_out]), np.repeat([True, False], 40)
    rng = np.random.default_rng(9)

    def log_ratio(train: np.ndarray) -> float:
        return float(np.log(both[:, train].min(1) / both[:, ~train].min(1)).mean())

    by_chance = [log_ratio(rng.permutation(is_train)) for _ in range(4000)]
    expected = np.mean([value <= log_ratio(is_train) for value in by_chance])
    assert ratio_test(to_train, to_held_out, 4000, 0)["p"] == pytest.approx(expected, abs=0.03)


def test_p_is_uniform_without_copies():
    ps = []
    for i in range(200):
        images, train, held_out = points(20, 3 * i), points(30, 3 * i + 1), points(30, 3 * i + 2)
        ps.append(ratio_test(distances(images, train), distances(images, held_out), 99, i)["p"])
    assert np.mean(np.array(ps) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(ps) == pytest.approx(0.5, abs=0.07)


def test_one_real_image_that_is_close_to_all_is_not_evidence():
    train, held_out, images = points(40, 1), points(40, 2), 0.3 * points(200, 3)
    train[0] = 0  # in the middle, so it is the neighbour of very many
    result = ratio_test(distances(images, train), distances(images, held_out), 400, 0)
    assert result["share_nearest_is_train"].value > 0.8
    assert result["p"] > 0.01  # a binomial test over the images would give less than 1e-20


def test_ratio_is_to_equally_many_training_and_held_out_images_of_each_class():
    train = np.concatenate([points(120, 1), points(600, 5)])
    train_labels = np.concatenate([CLASSES, np.zeros(600, int)])
    near = neighbours_of(points(300, 3), train=train)
    result = memorisation(near, train_labels, CLASSES, EVALUATION)
    assert result.n_train == 720
    assert result.figures.share_nearest_is_train.value == pytest.approx(0.5, abs=0.15)
    assert result.figures.ratio.value == pytest.approx(1, abs=0.08)


def test_new_images_of_a_class_with_few_held_out_images_are_not_copies():
    """With all held-out images, they would seem close to the training images."""
    classes = np.repeat([0, 1], 200)
    centres = np.where(classes[:, None] == 0, -6.0, 6.0)
    train, held_out, images = (points(400, seed) + centres for seed in (1, 2, 3))
    kept = np.r_[:15, 200:400]
    near = neighbours_of(images, train, held_out[kept])
    result = memorisation(near, classes, classes[kept], EVALUATION)
    assert result.n_held_out == 30
    assert result.figures.p_copied > 0.01


def test_a_class_without_held_out_image_leaves_no_figures():
    result = memorisation(neighbours_of(points(10, 3)), CLASSES, np.zeros(120, int), EVALUATION)
    assert (result.n, result.n_train, result.n_held_out) == (10, 120, 0)
    assert result.figures is None


def test_each_share_near_has_the_limit_of_its_set():
    train, held_out, images = points(120, 1), 0.3 * points(120, 2), 0.7 * points(200, 3)
    to_train, to_held_out = distances(images, train), distances(images, held_out)
    across, within = distances(held_out, train), distances(held_out, held_out)
    np.fill_diagonal(within, np.inf)
    near = Neighbours(to_train, to_held_out, across, within)
    result = memorisation(near, CLASSES, CLASSES, EVALUATION).figures
    near_train = to_train.min(1) < np.percentile(across.min(1), 5)
    near_held_out = to_held_out.min(1) < np.percentile(across.min(0), 5)
    assert result.share_near_train.value == pytest.approx(near_train.mean())
    assert result.share_near_held_out.value == pytest.approx(near_held_out.mean())
    with_other_limit = to_held_out.min(1) < np.percentile(across.min(1), 5)
    assert near_held_out.mean() != with_other_limit.mean()
