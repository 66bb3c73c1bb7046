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
    manifolds = Manifolds.of(real, generated)
    return {
        "precision": manifolds.precision(),
        "recall": manifolds.recall(),
        "density": manifolds.density(),
        "coverage": manifolds.coverage(),
    }


def brute_figures(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    def radius(rows: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i)[K - 1]

    n, m = len(real), len(generated)
    apart = [[np.linalg.norm(real[i] - generated[j]) for j in range(m)] for i in range(n)]
    in_real = [[apart[i][j] < radius(real, i) for j in range(m)] for i in range(n)]
    in_generated = [[apart[i][j] < radius(generated, j) for j in range(m)] for i in range(n)]
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
def test_ties_are_outside_as_in_prdc(seed):
    rng = np.random.default_rng(seed)
    real, generated = rng.integers(0, 4, (30, 3)).astype(float), rng.integers(0, 6, (40, 3)).astype(float)
    assert figures(real, generated) == pytest.approx(compute_prdc(real, generated, K))


def test_precision_and_recall_against_torch_fidelity():
    real, generated = features(80), noisy(50, 64, 0.2)
    options = {"prc_neighborhood": K, "prc_batch_size": 100, "save_cpu_ram": False, "verbose": False}
    expected = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), **options)
    result = figures(real, generated)
    assert 0 < result["recall"] < result["precision"] < 1
    assert result["precision"] == pytest.approx(expected[KEY_METRIC_PRECISION])
    assert result["recall"] == pytest.approx(expected[KEY_METRIC_RECALL])


def test_figures_against_loops():
    real, generated = features(12, 3), noisy(9, 3, 1)
    assert figures(real, generated) == pytest.approx(brute_figures(real, generated))


@pytest.mark.parametrize(("last", "recall"), [(40, 6 / 12), (60, 1)])
def test_case_worked_by_hand(last, recall):
    # Radii of real images: 5, 4, 3, 3, 4, 5 in each half.
    real = np.array([0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105.0])[:, None]
    # The radius of a generated image is the distance to the farthest one; the largest is 44.5 or 64.5.
    generated = np.array([-4.5, 2.5, 8.5, 20, 30, last])[:, None]
    # Real balls that contain a generated image: one for -4.5, six for 2.5, one for 8.5.
    assert figures(real, generated) == pytest.approx(
        {"precision": 3 / 6, "recall": recall, "density": 8 / 6 / K, "coverage": 6 / 12}
    )


def test_generator_that_repeats_one_image_has_precision_but_no_recall_or_coverage():
    real = features(200)
    collapsed = figures(real, real[:1] + 0.01 * features(200, seed=1))
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.15
    repeated = figures(real, np.repeat(real[:1], 200, axis=0))
    assert repeated["precision"] == 1
    assert repeated["recall"] == 0


def test_noisy_generator_has_recall_but_little_precision():
    result = figures(features(200, 8), noisy(200, 8, 2))
    assert result["precision"] < 0.1
    assert result["density"] < 0.1
    assert result["recall"] > 0.9


def test_same_distribution_has_a_density_of_1_and_the_expected_coverage():
    results = [figures(features(200, seed=2 * i), features(200, seed=2 * i + 1)) for i in range(20)]
    # Naeem et al., 2020, lemma 2
    expected = 1 - np.prod([(200 - i) / (400 - 1 - i) for i in range(1, K + 1)])
    assert np.mean([result["density"] for result in results]) == pytest.approx(1, abs=0.05)
    assert np.mean([result["coverage"] for result in results]) == pytest.approx(expected, abs=0.02)


def test_copy_of_the_real_set_has_the_best_values():
    real = features(50)
    # Each ball contains the image itself and its 4 nearest; the 5th is on the border, which is outside.
    assert figures(real, real.copy()) == pytest.approx(
        {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    )


def test_distances_are_euclidean_and_exactly_0_between_equal_rows():
    x, y = features(20), features(30, seed=1)
    np.testing.assert_allclose(distances(x, y), [[np.sqrt(((a - b) ** 2).sum()) for b in y] for a in x])
    assert (np.diag(distances(x, x)) == 0).all()


def test_rows_of_manifolds_are_the_manifolds_of_the_rows():
    real, generated = features(40, 8), features(30, 8, seed=1, shift=1)
    some, others = np.array([1, 5, 6, 9, 12, 20, 31, 39]), np.array([29, 0, 3, 4, 8, 17, 11])
    part, expected = (
        Manifolds.of(real, generated).rows(some, others),
        Manifolds.of(real[some], generated[others]),
    )
    for name in ("real", "generated", "across"):
        np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))


@pytest.mark.parametrize(("n", "m"), [(5, 9), (9, 5), (0, 9)])
def test_too_few_images_are_an_error(n, m):
    with pytest.raises(ValueError, match=f"need 6 images per set; there are {n} and {m}"):
        Manifolds.of(features(n), features(m))
