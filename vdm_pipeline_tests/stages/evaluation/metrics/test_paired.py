"""Paired differences against SciPy and against all sign flips."""

import itertools

import numpy as np
import pytest
from scipy import stats

from vdm_pipeline.stages.evaluation.metrics.paired import paired_difference, sign_flip_p


def brute_p(difference: np.ndarray) -> float:
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, difference, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(difference))
    ]
    return float(np.mean([total >= abs(sum(difference)) - 1e-9 for total in sums]))


def normal(n: int, shift: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n) + shift


@pytest.mark.parametrize(("shift", "seed"), [(0, 0), (0.5, 1), (-0.8, 2), (1, 3)])
def test_p_against_all_sign_flips(shift, seed):
    difference = normal(10, shift, seed)
    exact = brute_p(difference)
    assert sign_flip_p(difference, 40_000, seed) == pytest.approx(
        exact, abs=4 * (exact * (1 - exact) / 40_000) ** 0.5 + 1e-4
    )


@pytest.mark.parametrize("right", range(5, 11))
def test_p_of_equal_differences_is_the_sign_test(right):
    difference = np.repeat([0.1, -0.1], [right, 10 - right])
    exact = stats.binomtest(right, 10).pvalue
    assert sign_flip_p(difference, 40_000, 0) == pytest.approx(
        exact, abs=4 * (exact * (1 - exact) / 40_000) ** 0.5 + 1e-4
    )


@pytest.mark.parametrize("shift", [0, 0.3, -0.6])
def test_p_against_scipy(shift):
    difference = normal(11, shift, 5)
    exact = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_p(difference, 40_000, 0) == pytest.approx(
        exact, abs=4 * (exact * (1 - exact) / 40_000) ** 0.5 + 1e-4
    )


def test_p_is_never_0():
    assert sign_flip_p(np.ones(60), 99, 0) == 1 / 100
    assert sign_flip_p(-np.ones(60), 999, 0) == 1 / 1000


@pytest.mark.parametrize(
    "tenths",
    [
        [0, 0, 0],
        [1, -1, 0],
        [1, 0, -3, -1, 0, 3, 0, 0],
        [0, 3, 0, 0, -1, -1, 1, -2],
        [0, -3, 1, 3, 1, 2, -1, -3],
    ],
)
def test_p_is_1_where_the_differences_cancel(tenths):
    assert sign_flip_p(np.array(tenths) / 10, 1000, 0) == 1
    assert sign_flip_p(np.array(tenths) * 0.1e9, 1000, 0) == 1
    assert sign_flip_p(np.array(tenths) / 0.7e-9, 1000, 0) == 1


def test_p_is_uniform_under_the_null_hypothesis():
    p = np.array([sign_flip_p(normal(15, 0, seed), 399, seed) for seed in range(1500)])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.05)


def test_p_decreases_with_the_difference_and_ignores_sign_and_scale():
    weak, strong = (sign_flip_p(normal(30, shift, 0), 2000, 0) for shift in (0.2, 0.8))
    assert strong < 0.01 < weak
    assert sign_flip_p(-normal(30, 0.2, 0), 2000, 0) == weak
    assert sign_flip_p(1e-15 * normal(30, 0.2, 0), 2000, 0) == weak
    assert sign_flip_p(1e15 * normal(30, 0.2, 0), 2000, 0) == weak
    assert sign_flip_p(normal(30, 0.2, 0), 2000, 1) != weak


def test_difference_is_after_minus_before():
    before, after = normal(80, 0, 0), normal(80, 0.5, 1)
    result = paired_difference(before, after, 4000, 0)
    expected = stats.bootstrap(
        (after - before,), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    assert result["n"] == 80
    assert result["value"] == pytest.approx(after.mean() - before.mean())
    assert result["ci95"] == pytest.approx([expected.low, expected.high], abs=0.03)
    assert result["p"] == sign_flip_p(after - before, 4000, 0)
    assert result == paired_difference(before, after, 4000, 0)
    assert result["ci95"] != paired_difference(before, after, 4000, 1)["ci95"]


def test_interval_is_over_pairs_not_over_values():
    before = 100 * normal(50, 0, 0)
    result = paired_difference(before, before + 1 + 0.01 * normal(50, 0, 1), 500, 0)
    assert result["ci95"] == pytest.approx([1, 1], abs=0.01)
    assert result["p"] == 1 / 501
