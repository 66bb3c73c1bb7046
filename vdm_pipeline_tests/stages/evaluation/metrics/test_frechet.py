"""FID against torchmetrics, torch-fidelity and SciPy's matrix root, and by hand."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import _compute_fid

from vdm_pipeline.stages.evaluation.metrics.frechet import _covariance_factor, frechet_distance
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features

sizes = pytest.mark.parametrize(
    ("n", "m", "d"),
    [(90, 70, 8), (20, 30, 64), (20, 90, 64), (90, 20, 64), (33, 32, 32)],
    ids=["few features", "few images", "few real", "few generated", "as many"],
)


@sizes
def test_distance_against_torchmetrics(n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    moments = [
        torch.from_numpy(np.asarray(part))
        for rows in (x, y)
        for part in (rows.mean(0), np.cov(rows, rowvar=False))
    ]
    assert frechet_distance(x, y) == pytest.approx(float(_compute_fid(*moments)), abs=1e-4)


@sizes
def test_distance_against_torch_fidelity(n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    expected = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(rows)) for rows in (x, y)), verbose=False
    )
    assert frechet_distance(x, y) == pytest.approx(expected[KEY_METRIC_FID], abs=1e-4)


def test_distance_against_the_root_of_the_covariances():
    x, y = features(90, 8), features(70, 8, seed=1, shift=1)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(
        cov_x + cov_y - 2 * linalg.sqrtm(cov_x @ cov_y).real
    )
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_one_feature_worked_by_hand():
    x, y = np.array([[1.0], [3.0]]), np.array([[4.0], [12.0], [8.0]])  # means 2 and 8, variances 2 and 16
    assert frechet_distance(x, y) == pytest.approx((2 - 8) ** 2 + (2**0.5 - 4) ** 2)


def test_independent_features_add_up():
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    y = x * [3, 5] + [10, 20]  # variances 2/3 a column, times 9 and 25
    assert frechet_distance(x, y) == pytest.approx(10**2 + 20**2 + 2 / 3 * ((3 - 1) ** 2 + (5 - 1) ** 2))


@pytest.mark.parametrize("d", [8, 64])
def test_distance_is_0_to_the_same_set_and_the_squared_shift_to_a_shifted_one(d):
    x = features(40, d)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, np.flip(x, 0) + 0.5) == pytest.approx(0.25 * d)


def test_fid_of_few_images_is_biased():
    few, more, many = (
        np.mean([frechet_distance(features(n, seed=2 * i), features(n, seed=2 * i + 1)) for i in range(3)])
        for n in (50, 200, 2048)
    )
    moved = frechet_distance(features(2048), features(2048, seed=1, shift=1))
    assert few > 3 * more > 9 * many > 0
    assert few > moved > 10 * many


@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1), (0, 5)])
def test_too_few_images_are_an_error(n, m):
    with pytest.raises(ValueError, match=f"needs 2 images per set; there are {n} and {m}"):
        frechet_distance(features(n), features(m))
    assert np.isfinite(frechet_distance(features(2), features(2, seed=1)))


@pytest.mark.parametrize(("n", "d", "rows"), [(90, 8, 8), (20, 64, 20)])
def test_factor_is_no_larger_than_images_or_features(n, d, rows):
    factor = _covariance_factor(features(n, d))
    assert factor.shape == (rows, d)
    np.testing.assert_allclose(factor.T @ factor, np.cov(features(n, d), rowvar=False), atol=1e-12)
