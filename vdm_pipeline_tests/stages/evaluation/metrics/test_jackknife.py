"""Delete-a-block intervals against textbook errors and against what repeats show."""

import numpy as np
import pytest
from scipy import stats

from vdm_pipeline.stages.evaluation.metrics.diversity import vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.jackknife import jackknife_variance, with_interval
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features, share_within

RNG = np.random.default_rng(0)
X, Y = RNG.normal(5, 2, 12), RNG.normal(3, 1, 30)


def half(found: dict) -> float:
    low, high = found["ci95"]
    assert found["value"] - low == pytest.approx(high - found["value"])
    return (high - low) / 2


def test_a_row_at_a_time_gives_the_textbook_interval_of_a_mean():
    found = with_interval(lambda rows, _: X[rows].mean(), 12, 0, seed=0, blocks=12)
    theirs = stats.t.interval(0.95, 11, X.mean(), stats.sem(X))
    assert found["value"] == X.mean()
    assert found["ci95"] == pytest.approx(theirs)


def test_variances_of_two_sets_add_and_the_smaller_sets_the_quantile():
    found = with_interval(lambda mine, theirs: X[mine].mean() - Y[theirs].mean(), 12, 30, seed=0, blocks=40)
    error = (stats.sem(X) ** 2 + stats.sem(Y) ** 2) ** 0.5
    assert half(found) == pytest.approx(stats.t.ppf(0.975, 11) * error)
    turned = with_interval(lambda mine, theirs: Y[mine].mean() - X[theirs].mean(), 30, 12, seed=0, blocks=40)
    assert half(turned) == pytest.approx(stats.t.ppf(0.975, 11) * error)


def test_spread_against_its_formula():
    without = [1.0, 2.0, 4.0, 9.0]
    assert jackknife_variance(without) == pytest.approx(3 / 4 * sum((value - 4) ** 2 for value in without))
    assert jackknife_variance([]) == 0


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 7), (7, 50), (50, 0)])
def test_each_row_is_left_out_once_while_the_other_set_is_whole(n, m):
    calls: list[tuple[list[int], list[int]]] = []

    def measure(mine: np.ndarray, theirs: np.ndarray) -> float:
        calls.append((mine.tolist(), theirs.tolist()))
        return float(len(calls))

    with_interval(measure, n, m, seed=3)
    every = (list(range(n)), list(range(m)))
    assert calls[0] == every
    out = [
        tuple(sorted(set(whole) - set(kept)) for whole, kept in zip(every, call, strict=True))
        for call in calls[1:]
    ]
    of_x, of_y = [x for x, y in out if x and not y], [y for x, y in out if y and not x]
    assert [len(of_x), len(of_y)] == [min(20, n), min(20, m)]
    assert len(of_x) + len(of_y) == len(out)
    for blocks, whole in ((of_x, every[0]), (of_y, every[1])):
        assert sorted(row for block in blocks for row in block) == whole
        assert {len(block) for block in blocks} <= {len(whole) // 20, len(whole) // 20 + 1}
    assert of_x != of_y


def test_blocks_are_random_but_repeatable():
    ordered = np.sort(RNG.normal(0, 1, 400))
    found = with_interval(lambda rows, _: ordered[rows].mean(), 400, 0, seed=0)
    assert half(found) == pytest.approx(2 * stats.sem(ordered), rel=0.5)
    assert found == with_interval(lambda rows, _: ordered[rows].mean(), 400, 0, seed=0)
    assert found != with_interval(lambda rows, _: ordered[rows].mean(), 400, 0, seed=1)


def test_interval_stays_within_its_bounds():
    def measure(rows: np.ndarray, _: np.ndarray) -> float:
        return float(X[rows].mean())

    low, high = with_interval(measure, 12, 0, seed=0)["ci95"]
    assert with_interval(measure, 12, 0, seed=0, low=low + 0.1)["ci95"] == [low + 0.1, high]
    assert with_interval(measure, 12, 0, seed=0, high=high - 0.1)["ci95"] == [low, high - 0.1]
    assert with_interval(measure, 12, 0, seed=0, low=low - 1, high=high + 1)["ci95"] == [low, high]


def test_interval_covers_a_difference_of_means():
    intervals = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(1, 2, 60), rng.exponential(1, 45)
        intervals.append(
            with_interval(
                lambda mine, theirs, x=x, y=y: x[mine].mean() - y[theirs].mean(), 60, 45, seed=seed
            )["ci95"]
        )
    assert 0.91 <= share_within(intervals, 0) <= 0.985


def fid(seed: int) -> dict:
    x, y = features(100, 8, seed=2 * seed), features(80, 8, seed=2 * seed + 1, shift=1)
    return with_interval(lambda mine, theirs: frechet_distance(x[mine], y[theirs]), 100, 80, seed=seed)


def vendi(seed: int) -> dict:
    x = features(100, 8, seed=seed)
    return with_interval(lambda mine, _: vendi_score(x[mine]), 100, 0, seed=seed)


@pytest.mark.parametrize("figure", [fid, vendi])
def test_interval_is_as_wide_as_the_figure_differs_from_sample_to_sample(figure):
    found = [figure(seed) for seed in range(120)]
    values = np.array([each["value"] for each in found])
    assert np.mean([half(each) for each in found]) == pytest.approx(
        stats.t.ppf(0.975, 19) * values.std(), rel=0.2
    )
    assert 0.88 <= share_within([each["ci95"] for each in found], values.mean()) <= 0.99
