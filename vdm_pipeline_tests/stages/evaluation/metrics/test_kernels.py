"""KID and CMMD against loops, torchmetrics, torch-fidelity and scikit-learn, and on sets that do not differ."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise
from torch_fidelity.metric_kid import kernel_mmd
from torchmetrics.image.kid import poly_mmd

from vdm_pipeline.stages.evaluation.metrics.kernels import gaussian_kernel, polynomial_kernel, squared_mmd
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
    assert squared_mmd(x, y, kernel)["value"] == pytest.approx(brute_distance(x, y, kernel))


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
    assert squared_mmd(x, y, kernel)["ci95"] == pytest.approx([value - half, value + half])


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
    theirs = poly_mmd(torch.from_numpy(x), torch.from_numpy(y), 3, None, 1.0)
    assert squared_mmd(x, y, polynomial_kernel)["value"] == pytest.approx(float(theirs))


@pytest.mark.parametrize("seed", range(3))
def test_both_against_torch_fidelity(seed):
    x, y = features(40, seed=2 * seed), features(40, seed=2 * seed + 1, shift=seed / 2)
    kid = kernel_mmd(
        x, y, kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1
    )
    assert squared_mmd(x, y, polynomial_kernel)["value"] == pytest.approx(kid)
    cmmd = 1000 * kernel_mmd(x / 8, y / 8, kid_kernel="rbf", kid_kernel_rbf_sigma=10)
    assert squared_mmd(x, y, gaussian_kernel)["value"] == pytest.approx(cmmd)


def test_case_worked_by_hand():
    x, y = np.ones((3, 1)), -np.ones((4, 1))
    assert squared_mmd(x, y, polynomial_kernel) == {"value": 8 + 8 - 2 * 0, "ci95": [16, 16]}
    apart = pytest.approx(1000 + 1000 - 2 * 1000 * math.exp(-4 / 200))
    assert squared_mmd(x, y, gaussian_kernel) == {"value": apart, "ci95": [apart, apart]}


@both
@pytest.mark.parametrize(("n", "repeats"), [(50, 200), (200, 40), (1000, 10)])
def test_sets_that_do_not_differ_are_0_apart_on_average(kernel, n, repeats):
    found = [
        squared_mmd(features(n, seed=2 * i), features(n, seed=2 * i + 1), kernel) for i in range(repeats)
    ]
    values = np.array([each["value"] for each in found])
    assert abs(values.mean()) < 3 * values.std() / repeats**0.5
    assert values.min() < 0 < values.max()
    assert share_within([each["ci95"] for each in found], 0) >= 0.9
    half = np.mean([each["ci95"][1] - each["value"] for each in found])
    assert half < 5 * values.std()


@both
def test_distance_grows_with_the_shift(kernel):
    here = features(200)
    near, far = (squared_mmd(here, features(200, seed=1, shift=shift), kernel) for shift in (0.7, 1.4))
    assert 0 < near["ci95"][0] < near["ci95"][1] < far["ci95"][0]


@both
def test_interval_covers_the_distance(kernel):
    truth = squared_mmd(features(3000, 16, seed=1000), features(3000, 16, seed=1001, shift=1), kernel)[
        "value"
    ]
    found = [
        squared_mmd(features(40, 16, seed=2 * i), features(50, 16, seed=2 * i + 1, shift=1), kernel)
        for i in range(200)
    ]
    assert 0.86 <= share_within([each["ci95"] for each in found], truth) < 1


@both
@pytest.mark.parametrize(("n", "m"), [(2, 5), (5, 2), (0, 5)])
def test_too_few_images_are_refused(kernel, n, m):
    with pytest.raises(ValueError, match=f"needs 3 images per set; there are {n} and {m}"):
        squared_mmd(features(n), features(m), kernel)
    assert np.isfinite(squared_mmd(features(3), features(3, seed=1), kernel)["ci95"]).all()
