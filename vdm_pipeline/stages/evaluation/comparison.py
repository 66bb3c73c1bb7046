"""A set of images against held-out real ones, overall and by class."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.metrics.diversity import ms_ssim_within, vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval
from vdm_pipeline.stages.evaluation.metrics.jackknife import with_interval, with_intervals
from vdm_pipeline.stages.evaluation.metrics.kernels import gaussian_kernel, polynomial_kernel, squared_mmd
from vdm_pipeline.stages.evaluation.metrics.manifold import LEAST, Manifolds
from vdm_pipeline.stages.evaluation.samples import Sample
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER

FEWEST = LEAST + 2
"""Images a set: with one left out there are still as many neighbours as are asked for, and one more."""
NEIGHBOURHOOD = {
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, np.inf),
    "coverage": (0.0, 1.0),
}
"""Metrics of `Manifolds`, and between what they lie."""
SET_METRICS = ("kid", "cmmd", "fid", "precision", "recall", "density", "coverage", "diversity")


def compare(
    sample: Sample, reference: Sample, class_names: Sequence[str], evaluation: Evaluation
) -> dict[str, Any]:
    """Every metric of the sample against the reference images of the same classes; None where images are too few."""
    report = {}
    for name, mine, theirs in groups(sample, reference, class_names, evaluation.seed):
        report[name] = {
            "n": len(mine),
            "n_reference": len(theirs),
            **set_metrics(mine, theirs, LABELLER, evaluation.seed),
            **image_means(mine, evaluation),
            "ms_ssim": ms_ssim_within(mine.images, mine.labels, evaluation.bootstrap, evaluation.seed)
            if len(mine)
            else None,
            INDEPENDENT: set_metrics(mine, theirs, INDEPENDENT, evaluation.seed),
        }
    return report


def groups(
    sample: Sample, reference: Sample, class_names: Sequence[str], seed: int
) -> Iterator[tuple[str, Sample, Sample]]:
    """``overall`` and each class: what of the sample is compared with what of the reference.

    Overall, the reference is thinned to the class shares of the sample: else the shares would count as a difference.
    """
    yield "overall", sample, reference.rows(with_shares_of(sample.labels, reference.labels, seed))
    for label, name in enumerate(class_names):
        yield name, sample.rows(sample.labels == label), reference.rows(reference.labels == label)


def with_shares_of(labels: NDArray[np.int64], reference: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """Rows of ``reference`` ``[m]``, as many as can be, whose classes have the shares that they have in ``labels`` ``[n]``."""
    wanted = np.bincount(labels, minlength=int(reference.max(initial=0)) + 1)
    there = np.bincount(reference, minlength=len(wanted))
    size = min((there[c] / wanted[c] for c in np.flatnonzero(wanted)), default=0.0)
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(reference == c))[: int(count * size + 1e-9)]
        for c, count in enumerate(wanted)
    ]
    return np.sort(np.concatenate(rows))


def set_metrics(sample: Sample, reference: Sample, space: str, seed: int) -> dict[str, Any]:
    """The metrics that belong to whole sets, in one feature space."""
    x, y = sample.spaces[space], reference.spaces[space]
    if min(len(x), len(y)) < FEWEST:
        return dict.fromkeys(SET_METRICS)
    manifolds = Manifolds.of(y, x)

    def among(mine: NDArray[np.intp], theirs: NDArray[np.intp]) -> dict[str, float]:
        part = manifolds.rows(theirs, mine)
        return {name: getattr(part, name)() for name in NEIGHBOURHOOD}

    return {
        "kid": squared_mmd(x, y, polynomial_kernel),
        "cmmd": squared_mmd(x, y, gaussian_kernel),
        "fid": with_interval(
            lambda mine, theirs: frechet_distance(x[mine], y[theirs]), len(x), len(y), seed=seed, low=0
        ),
        **with_intervals(among, len(x), len(y), seed=seed, bounds=NEIGHBOURHOOD),
        "diversity": with_interval(lambda mine, _: vendi_score(x[mine]), len(x), 0, seed=seed, low=1),
    }


def image_means(sample: Sample, evaluation: Evaluation) -> dict[str, Any]:
    """Means of what each image has by itself."""
    values: dict[str, NDArray[np.float64]] = {
        "sharpness": sample.sharpness,
        "chroma": sample.chroma,
        "label_agreement": sample.agreement,
        "label_confidence": sample.confidence,
    }
    if not len(sample):
        return dict.fromkeys(values)
    return {
        name: mean_with_interval(value, evaluation.bootstrap, evaluation.seed)
        for name, value in values.items()
    }
