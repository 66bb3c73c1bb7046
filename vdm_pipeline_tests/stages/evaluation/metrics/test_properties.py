"""Properties of every metric: order does not matter, inputs are not changed, distances are symmetric."""

from collections.abc import Callable

import numpy as np
import pytest

from vdm_pipeline.stages.data.grey import chroma
from vdm_pipeline.stages.evaluation.metrics.diversity import ms_ssim_within, vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval, sharpness
from vdm_pipeline.stages.evaluation.metrics.kernels import (
    gaussian_kernel,
    polynomial_kernel,
    squared_mmd_with_interval,
)
from vdm_pipeline.stages.evaluation.metrics.manifold import Manifolds
from vdm_pipeline.stages.evaluation.metrics.paired import paired_difference
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features

DISTANCES: dict[str, Callable] = {
    "kid": lambda x, y: squared_mmd_with_interval(x, y, polynomial_kernel),
    "cmmd": lambda x, y: squared_mmd_with_interval(x, y, gaussian_kernel),
    "fid": lambda x, y: {"value": frechet_distance(x, y)},
}
METRICS = DISTANCES | {
    "precision": lambda x, y: {"value": Manifolds.of(x, y).precision()},
    "recall": lambda x, y: {"value": Manifolds.of(x, y).recall()},
    "density": lambda x, y: {"value": Manifolds.of(x, y).density()},
    "coverage": lambda x, y: {"value": Manifolds.of(x, y).coverage()},
}
LABELS = np.array([0, 1, 0, 1, 0, 0])
SIZES = pytest.mark.parametrize(
    ("n", "m", "d"), [(40, 30, 64), (40, 30, 8)], ids=["few images", "few features"]
)


def numbers(metric: dict) -> list[float]:
    return [metric["value"], *metric.get("ci95", [])]


@pytest.mark.parametrize("name", DISTANCES)
@SIZES
def test_distance_is_symmetric(name, n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    assert numbers(DISTANCES[name](x, y)) == pytest.approx(numbers(DISTANCES[name](y, x)))


def test_recall_is_precision_with_the_sets_exchanged():
    x, y = features(40), features(30, seed=1, shift=2)
    manifolds, exchanged = Manifolds.of(x, y), Manifolds.of(y, x)
    assert manifolds.precision() == exchanged.recall() != manifolds.recall() == exchanged.precision()


@pytest.mark.parametrize("name", METRICS)
@SIZES
def test_order_of_the_images_does_not_matter(name, n, m, d):
    rng = np.random.default_rng(0)
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    assert numbers(METRICS[name](rng.permutation(x), rng.permutation(y))) == pytest.approx(
        numbers(METRICS[name](x, y))
    )
    assert vendi_score(rng.permutation(x)) == pytest.approx(vendi_score(x))


@pytest.mark.parametrize("name", METRICS)
@SIZES
def test_rotation_of_all_features_does_not_matter(name, n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    assert numbers(METRICS[name](x @ rotation, y @ rotation)) == pytest.approx(numbers(METRICS[name](x, y)))
    assert vendi_score(x @ rotation) == pytest.approx(vendi_score(x))


@pytest.mark.parametrize("name", METRICS)
def test_features_are_not_changed(name):
    x, y = features(20, 8), features(30, 8, seed=1)
    METRICS[name](x, y)
    vendi_score(x)
    np.testing.assert_array_equal(x, features(20, 8))
    np.testing.assert_array_equal(y, features(30, 8, seed=1))


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_images_and_values_are_not_changed(channels):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, *channels), dtype=np.uint8)
    before, values, labels = images.copy(), features(2, 6), LABELS.copy()
    ms_ssim_within(images, labels, 10, 0)
    sharpness(images)
    chroma(images)
    paired_difference(*values, 10, 0)
    mean_with_interval(values[0], 10, 0)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(values, features(2, 6))
    np.testing.assert_array_equal(labels, LABELS)
