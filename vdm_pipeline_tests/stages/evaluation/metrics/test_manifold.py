"""Precision, recall, density and coverage against prdc, torch-fidelity and loops, and by hand."""

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from vdm_pipeline.stages.evaluation.metrics.manifold import Manifolds, distances
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features

K = 5


def noisy(n: int, d: int, noise: float) -> np.ndarray:
    return features(n, d, seed=1, shift=1) + noise * np.random.default_rng(2).standard_normal((n, d))


def figures(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    found = Manifolds.of(real, generated)
    return {
        "precision": found.precision(),
        "recall": found.recall(),
        "density": found.density(),
        "coverage": found.coverage(),
    }


def brute_figures(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    def reach(rows: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i)[K - 1]

    n, m = len(real), len(generated)
    apart = [[np.linalg.norm(real[i] - generated[j]) for j in range(m)] for i in range(n)]
    in_real = [[apart[i][j] < reach(real, i) for j in range(m)] for i in range(n)]
    in_generated = [[apart[i][j] < reach(generated, j) for j in range(m)] for i in range(n)]
    return {
        "precision": sum(any(in_real[i][j] for i in range(n)) for j in range(m)) / m,
        "recall": sum(any(in_generated[i]) for i in range(n)) / n,
        "density": sum(in_real[i][j] for i in range(n) for j in range(m)) / (K * m),
        "coverage": sum(any(in_real[i]) for i in range(n)) / n,
    }


@pytest.mark.parametrize(
    ("n", "m", "d", "noise"),
    [(60, 60, 8, 0), (80, 50, 64, 1), (50, 80, 3, 2), (7, 7, 4, 0), (200, 30, 16, 0.5)],
)
def test_figures_against_prdc(n, m, d, noise):
    real, generated = features(n, d), noisy(m, d, noise)
    assert figures(real, generated) == pytest.approx(compute_prdc(real, generated, K))


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_out_of_reach_as_in_prdc(seed):
    rng = np.random.default_rng(seed)
    real, generated = rng.integers(0, 4, (30, 3)).astype(float), rng.integers(0, 6, (40, 3)).astype(float)
    assert figures(real, generated) == pytest.approx(compute_prdc(real, generated, K))


def test_precision_and_recall_against_torch_fidelity():
    real, generated = features(80), noisy(50, 64, 0.2)
    options = {"prc_neighborhood": K, "prc_batch_size": 100, "save_cpu_ram": False, "verbose": False}
    theirs = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), **options)
    found = figures(real, generated)
    assert 0 < found["recall"] < found["precision"] < 1
    assert found["precision"] == pytest.approx(theirs[KEY_METRIC_PRECISION])
    assert found["recall"] == pytest.approx(theirs[KEY_METRIC_RECALL])


def test_figures_against_loops():
    real, generated = features(12, 3), noisy(9, 3, 1)
    assert figures(real, generated) == pytest.approx(brute_figures(real, generated))


@pytest.mark.parametrize(("last", "recall"), [(40, 6 / 12), (60, 1)])
def test_case_worked_by_hand(last, recall):
    real = np.array([0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105.0])[
        :, None
    ]  # reach 5, 4, 3, 3, 4, 5 in each half
    generated = np.array([-4.5, 2.5, 8.5, 20, 30, last])[
        :, None
    ]  # reach to the farthest: 44.5 of the last at 40, 64.5 at 60
    # Within reach of a real one: -4.5 of one, 2.5 of six, 8.5 of one.
    assert figures(real, generated) == pytest.approx(
        {"precision": 3 / 6, "recall": recall, "density": 8 / 6 / K, "coverage": 6 / 12}
    )


def test_a_generator_that_repeats_one_image_has_precision_but_neither_recall_nor_coverage():
    real = features(200)
    collapsed = figures(real, real[:1] + 0.01 * features(200, seed=1))
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.15
    repeated = figures(real, np.repeat(real[:1], 200, axis=0))
    assert repeated["precision"] == 1
    assert repeated["recall"] == 0


def test_a_noisy_generator_has_recall_but_little_precision():
    found = figures(features(200, 8), noisy(200, 8, 2))
    assert found["precision"] < 0.1
    assert found["density"] < 0.1
    assert found["recall"] > 0.9


def test_the_same_distribution_has_a_density_of_1_and_the_coverage_that_is_expected():
    found = [figures(features(200, seed=2 * i), features(200, seed=2 * i + 1)) for i in range(20)]
    expected = 1 - np.prod(
        [(200 - i) / (400 - 1 - i) for i in range(1, K + 1)]
    )  # Naeem et al., 2020, lemma 2
    assert np.mean([each["density"] for each in found]) == pytest.approx(1, abs=0.05)
    assert np.mean([each["coverage"] for each in found]) == pytest.approx(expected, abs=0.02)


def test_a_copy_of_the_real_set_is_precise_and_complete():
    real = features(50)
    # Each has itself and the 4 nearest others within reach; the 5th lies on the border, which is out of it.
    assert figures(real, real.copy()) == pytest.approx(
        {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    )


def test_distances_are_euclidean_and_exactly_0_between_equal_rows():
    x, y = features(20), features(30, seed=1)
    np.testing.assert_allclose(distances(x, y), [[np.sqrt(((a - b) ** 2).sum()) for b in y] for a in x])
    assert (np.diag(distances(x, x)) == 0).all()


def test_a_part_is_what_it_is_by_itself():
    real, generated = features(40, 8), features(30, 8, seed=1, shift=1)
    some, others = np.array([1, 5, 6, 9, 12, 20, 31, 39]), np.array([29, 0, 3, 4, 8, 17, 11])
    part, alone = (
        Manifolds.of(real, generated).rows(some, others),
        Manifolds.of(real[some], generated[others]),
    )
    for found, expected in (
        (part.real, alone.real),
        (part.generated, alone.generated),
        (part.across, alone.across),
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("n", "m"), [(5, 9), (9, 5), (0, 9)])
def test_too_few_images_are_refused(n, m):
    with pytest.raises(ValueError, match=f"need 6 images per set; there are {n} and {m}"):
        Manifolds.of(features(n), features(m))
