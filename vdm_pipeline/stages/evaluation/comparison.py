"""Compare a set of images with held-out real images, overall and by class."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.class_matching import rows_with_class_shares
from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.measured_images import MeasuredImages
from vdm_pipeline.stages.evaluation.metrics.diversity import ms_ssim_within, vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval
from vdm_pipeline.stages.evaluation.metrics.jackknife import with_interval, with_intervals
from vdm_pipeline.stages.evaluation.metrics.kernels import (
    gaussian_kernel,
    polynomial_kernel,
    squared_mmd_with_interval,
)
from vdm_pipeline.stages.evaluation.metrics.manifold import MIN_IMAGES as MIN_MANIFOLD_IMAGES
from vdm_pipeline.stages.evaluation.metrics.manifold import Manifolds
from vdm_pipeline.stages.evaluation.results import ArmMetrics, GroupMetrics, ImageMeans, SpaceMetrics

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

MIN_IMAGES = MIN_MANIFOLD_IMAGES + 2
"""Fewest images per set: enough for `Manifolds` if the jackknife leaves one out, and one to spare."""
MANIFOLD_BOUNDS = {
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, np.inf),
    "coverage": (0.0, 1.0),
}
"""Smallest and largest possible value of each metric of `Manifolds`."""


def compare(
    images: MeasuredImages, reference: MeasuredImages, class_names: Sequence[str], evaluation: Evaluation
) -> ArmMetrics:
    """All metrics of the images against reference images of the same classes.

    Overall, reference images are left out until the class shares match those of the images. Otherwise a
    difference in shares would count as a difference between images.
    """
    matched = rows_with_class_shares(images.labels, reference.labels, evaluation.seed)
    return ArmMetrics(
        overall=group_metrics(images, reference.select(matched), evaluation),
        by_class={
            name: group_metrics(images.of_class(label), reference.of_class(label), evaluation)
            for label, name in enumerate(class_names)
        },
    )


def group_metrics(images: MeasuredImages, reference: MeasuredImages, evaluation: Evaluation) -> GroupMetrics:
    """All metrics of one group."""
    return GroupMetrics(
        n=len(images),
        n_reference=len(reference),
        spaces={
            name: space_metrics(features, reference.features[name], evaluation.seed)
            for name, features in images.features.items()
        },
        means=image_means(images, evaluation) if len(images) else None,
        ms_ssim=_ms_ssim(images, evaluation),
    )


def space_metrics(x: Floats, reference: Floats, seed: int) -> SpaceMetrics | None:
    """Metrics of features ``[n, d]`` against ``[m, d]``; None if a set has fewer than `MIN_IMAGES`."""
    n, m = len(x), len(reference)
    if min(n, m) < MIN_IMAGES:
        return None

    def fid(rows: Rows, reference_rows: Rows) -> float:
        return frechet_distance(x[rows], reference[reference_rows])

    def diversity(rows: Rows, _: Rows) -> float:
        return vendi_score(x[rows])

    return SpaceMetrics(
        kid=Estimate.from_dict(squared_mmd_with_interval(x, reference, polynomial_kernel)),
        cmmd=Estimate.from_dict(squared_mmd_with_interval(x, reference, gaussian_kernel)),
        fid=Estimate.from_dict(with_interval(fid, n, m, seed=seed, low=0)),
        diversity=Estimate.from_dict(with_interval(diversity, n, 0, seed=seed, low=1)),
        **_manifold_metrics(x, reference, seed),
    )


def _manifold_metrics(x: Floats, reference: Floats, seed: int) -> Mapping[str, Estimate]:
    """Precision, recall, density and coverage."""
    manifolds = Manifolds.of(real=reference, generated=x)

    def measure(rows: Rows, reference_rows: Rows) -> dict[str, float]:
        part = manifolds.rows(real=reference_rows, generated=rows)
        return {name: getattr(part, name)() for name in MANIFOLD_BOUNDS}

    figures = with_intervals(measure, len(x), len(reference), seed=seed, bounds=MANIFOLD_BOUNDS)
    return {name: Estimate.from_dict(figure) for name, figure in figures.items()}


def image_means(images: MeasuredImages, evaluation: Evaluation) -> ImageMeans:
    """Means of the values that each image has; at least one image."""

    def mean(values: Floats) -> Estimate:
        return Estimate.from_dict(mean_with_interval(values, evaluation.bootstrap, evaluation.seed))

    return ImageMeans(
        sharpness=mean(images.sharpness),
        chroma=mean(images.chroma),
        label_agreement=mean(images.agreement),
        label_confidence=mean(images.confidence),
    )


def _ms_ssim(images: MeasuredImages, evaluation: Evaluation) -> Estimate | None:
    """Mean MS-SSIM of pairs of one class; None without such pairs."""
    if not len(images):
        return None
    figure = ms_ssim_within(images.images, images.labels, evaluation.bootstrap, evaluation.seed)
    return Estimate.from_dict(figure) if figure else None
