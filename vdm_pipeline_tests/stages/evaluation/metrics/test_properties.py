"""What holds of every metric: order does not matter, inputs are left alone, distances are symmetric."""

from collections.abc import Callable

import numpy as np
import pytest

from vdm_pipeline.stages.data.grey import chroma
from vdm_pipeline.stages.evaluation.metrics.diversity import ms_ssim_within, vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval, sharpness
from vdm_pipeline.stages.evaluation.metrics.kernels import gaussian_kernel, polynomial_kernel, squared_mmd
from vdm_pipeline.stages.evaluation.metrics.manifold import Manifolds
from vdm_pipeline.stages.evaluation.metrics.paired import paired_difference
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features

DISTANCES: dict[str, Callable] = {
    "kid": lambda x, y: squared_mmd(x, y, polynomial_kernel),
    "cmmd": lambda x, y: squared_mmd(x, y, gaussian_kernel),
    "fid": lambda x, y: {"value": frechet_distance(x, y)},
}
OF_TWO = DISTANCES | {
    "precision": lambda x, y: {"value": Manifolds.of(x, y).precision()},
    "recall": lambda x, y: {"value": Manifolds.of(x, y).recall()},
    "density": lambda x, y: {"value": Manifolds.of(x, y).density()},
    "coverage": lambda x, y: {"value": Manifolds.of(x, y).coverage()},
}
LABELS = np.array([0, 1, 0, 1, 0, 0])
SIZES = pytest.mark.parametrize(
    ("n", "m", "d"), [(40, 30, 64), (40, 30, 8)], ids=["few images", "few features"]
)


def numbers(found: dict) -> list[float]:
    return [found["value"], *found.get("ci95", [])]


@pytest.mark.parametrize("name", DISTANCES)
@SIZES
def test_distance_is_the_same_there_and_back(name, n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    assert numbers(DISTANCES[name](x, y)) == pytest.approx(numbers(DISTANCES[name](y, x)))


def test_recall_is_precision_with_the_sets_exchanged():
    x, y = features(40), features(30, seed=1, shift=2)
    there, back = Manifolds.of(x, y), Manifolds.of(y, x)
    assert there.precision() == back.recall() != there.recall() == back.precision()


@pytest.mark.parametrize("name", OF_TWO)
@SIZES
def test_order_of_the_images_does_not_matter(name, n, m, d):
    rng = np.random.default_rng(0)
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    assert numbers(OF_TWO[name](rng.permutation(x), rng.permutation(y))) == pytest.approx(
        numbers(OF_TWO[name](x, y))
    )
    assert vendi_score(rng.permutation(x)) == pytest.approx(vendi_score(x))


@pytest.mark.parametrize("name", OF_TWO)
@SIZES
def test_a_turn_of_all_features_does_not_matter(name, n, m, d):
    x, y = features(n, d), features(m, d, seed=1, shift=1)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    assert numbers(OF_TWO[name](x @ turn, y @ turn)) == pytest.approx(numbers(OF_TWO[name](x, y)))
    assert vendi_score(x @ turn) == pytest.approx(vendi_score(x))


@pytest.mark.parametrize("name", OF_TWO)
def test_features_are_left_as_they_are(name):
    x, y = features(20, 8), features(30, 8, seed=1)
    OF_TWO[name](x, y)
    vendi_score(x)
    np.testing.assert_array_equal(x, features(20, 8))
    np.testing.assert_array_equal(y, features(30, 8, seed=1))


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_images_and_values_are_left_as_they_are(channels):
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
