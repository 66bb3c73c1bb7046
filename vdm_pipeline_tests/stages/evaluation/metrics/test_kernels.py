"""KID and CMMD against loops, torchmetrics, torch-fidelity and scikit-learn, and on equal distributions."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise
from torch_fidelity.metric_kid import kernel_mmd
from torchmetrics.image.kid import poly_mmd

from vdm_pipeline.stages.evaluation.metrics.kernels import (
    gaussian_kernel,
    polynomial_kernel,
    squared_mmd,
    squared_mmd_with_interval,
)
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features, share_within


def polynomial(a: np.ndarray, b: np.ndarray) -> float:
    dot = 0.0
    for left, right in zip(a, b, strict=True):
        dot += left * right
    return (dot / len(a) + 1) ** 3


def gaussian(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a / math.dist(a, 0 * a), b / math.dist(b, 0 * b)
    return 1000 * math.exp(-(math.dist(a, b) ** 2) / (2 * 10**2))


DEFINITIONS = {polynomial_kernel: polynomial, gaussian_kernel: gaussian}
both = pytest.mark.parametrize("kernel", DEFINITIONS, ids=["kid", "cmmd"])


def brute_distance(x: np.ndarray, y: np.ndarray, kernel) -> float:
    """Unbiased squared MMD by its definition."""
    n, m, k = len(x), len(y), DEFINITIONS[kernel]
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@both
def test_distance_against_loops(kernel):
    x, y = features(7, 4), features(5, 4, seed=1, shift=1)
    assert squared_mmd(x, y, kernel) == pytest.approx(brute_distance(x, y, kernel))


@both
def test_interval_against_leaving_one_out(kernel):
    x, y = features(6, 4), features(9, 4, seed=1, shift=1)
    without_x = [brute_distance(np.delete(x, i, axis=0), y, kernel) for i in range(6)]
    without_y = [brute_distance(x, np.delete(y, i, axis=0), kernel) for i in range(9)]
    variance = 0.0
    for values in (without_x, without_y):
        centre = sum(values) / len(values)
        variance += (len(values) - 1) / len(values) * sum((value - centre) ** 2 for value in values)
    value, half = brute_distance(x, y, kernel), 1.959964 * variance**0.5
    with_interval = squared_mmd_with_interval(x, y, kernel)
    assert with_interval["ci95"] == pytest.approx([value - half, value + half])
    assert with_interval["value"] == squared_mmd(x, y, kernel)


def test_kernels_against_scikit_learn():
    x, y = features(20), features(30, seed=1)
    np.testing.assert_allclose(polynomial_kernel(x, y), pairwise.polynomial_kernel(x, y, degree=3, coef0=1))
    unit_x, unit_y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    np.testing.assert_allclose(
        gaussian_kernel(x, y), 1000 * pairwise.rbf_kernel(unit_x, unit_y, gamma=1 / 200)
    )
    np.testing.assert_allclose(
        gaussian_kernel(2 * x, 3 * y), 1000 * pairwise.rbf_kernel(2 * unit_x, 3 * unit_y, gamma=1 / 200)
    )


def test_kid_against_torchmetrics():
    x, y = features(20), features(20, seed=1, shift=1)
    expected = poly_mmd(torch.from_numpy(x), torch.from_numpy(y), 3, None, 1.0)
    assert squared_mmd(x, y, polynomial_kernel) == pytest.approx(float(expected))


@pytest.mark.parametrize("seed", range(3))
def test_kid_and_cmmd_against_torch_fidelity(seed):
    x, y = features(40, seed=2 * seed), features(40, seed=2 * seed + 1, shift=seed / 2)
    kid = kernel_mmd(
        x, y, kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1
    )
    assert squared_mmd(x, y, polynomial_kernel) == pytest.approx(kid)
    cmmd = 1000 * kernel_mmd(x / 8, y / 8, kid_kernel="rbf", kid_kernel_rbf_sigma=10)
    assert squared_mmd(x, y, gaussian_kernel) == pytest.approx(cmmd)


def test_case_worked_by_hand():
    x, y = np.ones((3, 1)), -np.ones((4, 1))
    kid = 8 + 8 - 2 * 0
    assert squared_mmd_with_interval(x, y, polynomial_kernel) == {"value": kid, "ci95": [kid, kid]}
    cmmd = pytest.approx(1000 + 1000 - 2 * 1000 * math.exp(-4 / 200))
    assert squared_mmd_with_interval(x, y, gaussian_kernel) == {"value": cmmd, "ci95": [cmmd, cmmd]}


@both
@pytest.mark.parametrize(("n", "repeats"), [(50, 200), (200, 40), (1000, 10)])
def test_distance_between_sets_of_one_distribution_is_0_on_average(kernel, n, repeats):
    pairs = [(features(n, seed=2 * i), features(n, seed=2 * i + 1)) for i in range(repeats)]
    results = [squared_mmd_with_interval(x, y, kernel) for x, y in pairs]
    values = np.array([result["value"] for result in results])
    assert abs(values.mean()) < 3 * values.std() / repeats**0.5
    assert values.min() < 0 < values.max()
    assert share_within([result["ci95"] for result in results], 0) >= 0.9
    half = np.mean([result["ci95"][1] - result["value"] for result in results])
    assert half < 5 * values.std()


@both
def test_distance_grows_with_the_shift(kernel):
    x = features(200)
    near, far = (
        squared_mmd_with_interval(x, features(200, seed=1, shift=shift), kernel) for shift in (0.7, 1.4)
    )
    assert 0 < near["ci95"][0] < near["ci95"][1] < far["ci95"][0]


@both
def test_interval_covers_the_distance(kernel):
    truth = squared_mmd(features(3000, 16, seed=1000), features(3000, 16, seed=1001, shift=1), kernel)
    pairs = [(features(40, 16, seed=2 * i), features(50, 16, seed=2 * i + 1, shift=1)) for i in range(200)]
    intervals = [squared_mmd_with_interval(x, y, kernel)["ci95"] for x, y in pairs]
    assert 0.86 <= share_within(intervals, truth) < 1


@both
@pytest.mark.parametrize(
    ("function", "least"), [(squared_mmd, 2), (squared_mmd_with_interval, 3)], ids=["value", "interval"]
)
def test_too_few_images_are_an_error(kernel, function, least):
    for n, m in [(least - 1, 5), (5, least - 1), (0, 5)]:
        with pytest.raises(ValueError, match=f"needs {least} images per set; there are {n} and {m}"):
            function(features(n), features(m), kernel)
    function(features(least), features(least, seed=1), kernel)


@both
def test_interval_of_the_smallest_sets_is_finite(kernel):
    result = squared_mmd_with_interval(features(3), features(3, seed=1), kernel)
    assert np.isfinite(result["ci95"]).all()
