"""Which images are compared with which, and by what."""

import numpy as np
import pytest
from vdm_pipeline.stages.evaluation.samples import Sample

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.comparison import (
    SET_METRICS,
    compare,
    groups,
    set_metrics,
    with_shares_of,
)
from vdm_pipeline.stages.evaluation.metrics.diversity import ms_ssim_within, vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.jackknife import with_interval
from vdm_pipeline.stages.evaluation.metrics.kernels import (
    gaussian_kernel,
    polynomial_kernel,
    squared_mmd_with_interval,
)
from vdm_pipeline.stages.evaluation.metrics.manifold import Manifolds

NAMES = ("left", "right")
EVALUATION = Evaluation(bootstrap=50)


def sample(labels: list[int], seed: int = 0, shift: float = 0.0) -> Sample:
    rng, n = np.random.default_rng(seed), len(labels)
    spaces = {}
    for name, d in (("labeller", 6), ("independent", 4)):
        x = rng.normal(shift, 1, (n, d))
        spaces[name] = x / np.linalg.norm(x, axis=1, keepdims=True) * d**0.5
    return Sample(
        images=rng.integers(256, size=(n, 16, 16), dtype=np.uint8),
        labels=np.array(labels),
        sharpness=rng.uniform(0, 9, n),
        chroma=rng.uniform(0, 9, n),
        judged=rng.dirichlet((1, 1), n),
        spaces=spaces,
    )


def test_overall_reference_has_the_class_shares_of_the_sample():
    labels, reference = np.array([0] * 10 + [1] * 30), np.array([0] * 50 + [1] * 60)
    rows = with_shares_of(labels, reference, 0)
    assert np.bincount(reference[rows]).tolist() == [20, 60]
    assert len(set(rows.tolist())) == 80
    assert not np.array_equal(rows, with_shares_of(labels, reference, 1))


@pytest.mark.parametrize(
    ("labels", "reference", "counts"),
    [([1], [0, 0, 1, 1], [0, 2]), ([0, 1], [1, 1], [0, 0]), ([], [0, 1], [0, 0])],
)
def test_classes_that_are_absent(labels, reference, counts):
    rows = with_shares_of(np.array(labels, int), np.array(reference), 0)
    assert np.bincount(np.array(reference)[rows], minlength=2).tolist() == counts


def test_class_groups_hold_their_class_alone_and_all_of_it():
    found = {
        name: (mine, theirs)
        for name, mine, theirs in groups(sample([0, 0, 1]), sample([0, 1, 1, 1], 1), NAMES, 0)
    }
    assert list(found) == ["overall", *NAMES]
    assert [len(found[name][1]) for name in NAMES] == [1, 3]
    assert all((part.labels == label).all() for label, name in enumerate(NAMES) for part in found[name])


@pytest.mark.parametrize("space", ["labeller", "independent"])
def test_set_metrics_are_those_of_the_metrics_modules(space):
    mine, theirs = sample([0] * 20, 0, 0.3), sample([0] * 25, 1)
    x, y = mine.spaces[space], theirs.spaces[space]
    found, manifolds = set_metrics(mine, theirs, space, 0), Manifolds.of(y, x)
    assert found["kid"] == squared_mmd_with_interval(x, y, polynomial_kernel)
    assert found["cmmd"] == squared_mmd_with_interval(x, y, gaussian_kernel)
    assert found["fid"] == with_interval(lambda a, b: frechet_distance(x[a], y[b]), 20, 25, seed=0, low=0)
    assert found["diversity"]["value"] == pytest.approx(vendi_score(x))
    for name in ("precision", "recall", "density", "coverage"):
        assert found[name]["value"] == pytest.approx(getattr(manifolds, name)())
    assert set(found) == set(SET_METRICS)
    assert all(value["ci95"][0] <= value["value"] <= value["ci95"][1] for value in found.values())


def test_report_of_an_arm_holds_both_spaces_and_the_means_of_images():
    mine, theirs = sample([0] * 10 + [1] * 10), sample([0] * 12 + [1] * 30, 1)
    report = compare(mine, theirs, NAMES, EVALUATION)
    assert (report["overall"]["n"], report["overall"]["n_reference"], report["right"]["n_reference"]) == (
        20,
        24,
        30,
    )
    assert report["left"]["kid"] == squared_mmd_with_interval(
        mine.spaces["labeller"][:10], theirs.spaces["labeller"][:12], polynomial_kernel
    )
    second = squared_mmd_with_interval(
        mine.spaces["independent"][:10], theirs.spaces["independent"][:12], polynomial_kernel
    )
    assert report["left"]["independent"]["kid"] == second
    assert report["right"]["sharpness"]["value"] == pytest.approx(mine.sharpness[10:].mean())
    assert report["right"]["label_agreement"]["value"] == pytest.approx(
        (mine.judged[10:].argmax(1) == 1).mean()
    )
    assert report["left"]["label_confidence"]["value"] == pytest.approx(mine.judged[:10, 0].mean())
    assert report["overall"]["ms_ssim"] == ms_ssim_within(mine.images, mine.labels, 50, 0)


def test_too_few_images_have_no_set_metrics():
    report = compare(sample([0] * 7 + [1] * 8), sample([0] * 20 + [1] * 20, 1), NAMES, EVALUATION)
    assert all(
        report["left"][name] is None and report["left"]["independent"][name] is None for name in SET_METRICS
    )
    assert all(report["right"][name]["value"] is not None for name in SET_METRICS)


def test_a_class_without_images_has_no_figures():
    report = compare(sample([0] * 10), sample([0] * 12, 1), NAMES, EVALUATION)
    assert report["right"]["n"] == 0
    assert report["right"]["sharpness"] is report["right"]["kid"] is report["right"]["ms_ssim"] is None
