"""Each metric of a comparison is computed from the right images and features."""

from dataclasses import asdict

import numpy as np
import pytest

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.comparison import compare, space_metrics
from vdm_pipeline.stages.evaluation.measured_images import MeasuredImages
from vdm_pipeline.stages.evaluation.metrics.diversity import ms_ssim_within, vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.jackknife import with_interval
from vdm_pipeline.stages.evaluation.metrics.kernels import (
    gaussian_kernel,
    polynomial_kernel,
    squared_mmd,
    squared_mmd_with_interval,
)
from vdm_pipeline.stages.evaluation.metrics.manifold import Manifolds
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER, SPACES

NAMES = ("left", "right")
EVALUATION = Evaluation(bootstrap=50)


def random_features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(shift, 1, (n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * d**0.5


def random_images(labels: list[int], seed: int = 0, shift: float = 0.0) -> MeasuredImages:
    rng, n = np.random.default_rng(seed), len(labels)
    return MeasuredImages(
        images=rng.integers(256, size=(n, 16, 16), dtype=np.uint8),
        labels=np.array(labels),
        sharpness=rng.uniform(0, 9, n),
        chroma=rng.uniform(0, 9, n),
        probabilities=rng.dirichlet((1, 1), n),
        features={
            LABELLER: random_features(n, 6, seed, shift),
            INDEPENDENT: random_features(n, 4, seed + 100, shift),
        },
    )


def as_dict(estimate) -> dict:
    return {"value": estimate.value, "ci95": list(estimate.ci95)}


def test_images_of_a_class_are_all_of_it_with_their_values():
    images = random_images([0, 1, 0, 1, 1])
    rows = [1, 3, 4]
    part = images.of_class(1)
    assert part.labels.tolist() == [1, 1, 1]
    for name in ("images", "sharpness", "chroma", "probabilities"):
        np.testing.assert_array_equal(getattr(part, name), getattr(images, name)[rows])
    for space, features in images.features.items():
        np.testing.assert_array_equal(part.features[space], features[rows])


def test_agreement_and_confidence_are_of_the_image_class():
    images = random_images([0, 1, 1])
    chosen = [images.probabilities[i, label] for i, label in enumerate(images.labels)]
    assert images.confidence.tolist() == chosen
    assert images.agreement.tolist() == [float(p > 0.5) for p in chosen]


def test_space_metrics_are_those_of_the_metrics_modules():
    x, y = random_features(20, 6, 0, 0.3), random_features(25, 6, 1)
    result = space_metrics(x, y, 0)
    assert as_dict(result.kid) == squared_mmd_with_interval(x, y, polynomial_kernel)
    assert as_dict(result.cmmd) == squared_mmd_with_interval(x, y, gaussian_kernel)
    fid = with_interval(lambda a, b: frechet_distance(x[a], y[b]), 20, 25, seed=0, low=0)
    assert as_dict(result.fid) == fid
    assert result.diversity.value == pytest.approx(vendi_score(x))
    manifolds = Manifolds.of(y, x)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(result, name).value == pytest.approx(getattr(manifolds, name)())
    for estimate in asdict(result).values():
        assert estimate["ci95"][0] <= estimate["value"] <= estimate["ci95"][1]


def test_too_few_images_have_no_space_metrics():
    few, enough = random_features(7, 6, 0), random_features(8, 6, 1)
    assert space_metrics(few, enough, 0) is None
    assert space_metrics(enough, few, 0) is None
    assert space_metrics(enough, enough, 0) is not None


def test_overall_reference_has_the_class_shares_of_the_images():
    metrics = compare(
        random_images([0] * 10 + [1] * 10), random_images([0] * 12 + [1] * 30, 1), NAMES, EVALUATION
    )
    assert (metrics.overall.n, metrics.overall.n_reference) == (20, 24)
    assert [metrics.by_class[name].n_reference for name in NAMES] == [12, 30]


@pytest.mark.parametrize("space", SPACES)
def test_class_metrics_are_of_the_class_in_both_spaces(space):
    images, reference = random_images([0] * 10 + [1] * 10), random_images([0] * 12 + [1] * 30, 1)
    left = compare(images, reference, NAMES, EVALUATION).by_class["left"]
    kid = squared_mmd(images.features[space][:10], reference.features[space][:12], polynomial_kernel)
    assert left.spaces[space].kid.value == pytest.approx(kid)


def test_means_are_over_the_images_of_the_group():
    images = random_images([0] * 10 + [1] * 10)
    metrics = compare(images, random_images([0] * 12 + [1] * 30, 1), NAMES, EVALUATION)
    left, right = (metrics.by_class[name].means for name in NAMES)
    assert right.sharpness.value == pytest.approx(images.sharpness[10:].mean())
    assert right.chroma.value == pytest.approx(images.chroma[10:].mean())
    assert right.label_agreement.value == pytest.approx((images.probabilities[10:].argmax(1) == 1).mean())
    assert left.label_confidence.value == pytest.approx(images.probabilities[:10, 0].mean())
    assert as_dict(metrics.overall.ms_ssim) == ms_ssim_within(images.images, images.labels, 50, 0)


def test_a_class_without_images_has_no_metrics():
    right = compare(random_images([0] * 10), random_images([0] * 12, 1), NAMES, EVALUATION).by_class["right"]
    assert right.n == 0
    assert right.means is right.spaces[LABELLER] is right.spaces[INDEPENDENT] is right.ms_ssim is None
