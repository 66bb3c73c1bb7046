"""Delete-a-block jackknife intervals against textbook errors and against repeated samples."""

import numpy as np
import pytest
from scipy import stats

from vdm_pipeline.stages.evaluation.metrics.diversity import vendi_score
from vdm_pipeline.stages.evaluation.metrics.frechet import frechet_distance
from vdm_pipeline.stages.evaluation.metrics.jackknife import jackknife_variance, with_interval
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features, share_within

RNG = np.random.default_rng(0)
X, Y = RNG.normal(5, 2, 12), RNG.normal(3, 1, 30)


def half_width(result: dict) -> float:
    low, high = result["ci95"]
    assert result["value"] - low == pytest.approx(high - result["value"])
    return (high - low) / 2


def test_blocks_of_one_row_give_the_textbook_interval_of_a_mean():
    result = with_interval(lambda rows, _: X[rows].mean(), 12, 0, seed=0, blocks=12)
    assert result["value"] == X.mean()
    assert result["ci95"] == pytest.approx(stats.t.interval(0.95, 11, X.mean(), stats.sem(X)))


def test_variances_of_two_sets_add_up_and_the_smaller_set_determines_the_quantile():
    result = with_interval(lambda x, y: X[x].mean() - Y[y].mean(), 12, 30, seed=0, blocks=40)
    error = (stats.sem(X) ** 2 + stats.sem(Y) ** 2) ** 0.5
    assert half_width(result) == pytest.approx(stats.t.ppf(0.975, 11) * error)
    exchanged = with_interval(lambda x, y: Y[x].mean() - X[y].mean(), 30, 12, seed=0, blocks=40)
    assert half_width(exchanged) == pytest.approx(stats.t.ppf(0.975, 11) * error)


def test_variance_against_its_formula():
    without = [1.0, 2.0, 4.0, 9.0]
    assert jackknife_variance(without) == pytest.approx(3 / 4 * sum((value - 4) ** 2 for value in without))
    assert jackknife_variance([]) == 0


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 7), (7, 50), (50, 0)])
def test_each_row_is_left_out_once_while_the_other_set_is_complete(n, m):
    calls: list[tuple[list[int], list[int]]] = []

    def statistic(rows_x: np.ndarray, rows_y: np.ndarray) -> float:
        calls.append((rows_x.tolist(), rows_y.tolist()))
        return float(len(calls))

    with_interval(statistic, n, m, seed=3)
    all_rows = (list(range(n)), list(range(m)))
    assert calls[0] == all_rows
    out = [
        tuple(sorted(set(whole) - set(kept)) for whole, kept in zip(all_rows, call, strict=True))
        for call in calls[1:]
    ]
    of_x, of_y = [x for x, y in out if x and not y], [y for x, y in out if y and not x]
    assert [len(of_x), len(of_y)] == [min(20, n), min(20, m)]
    assert len(of_x) + len(of_y) == len(out)
    for blocks, whole in ((of_x, all_rows[0]), (of_y, all_rows[1])):
        assert sorted(row for block in blocks for row in block) == whole
        assert {len(block) for block in blocks} <= {len(whole) // 20, len(whole) // 20 + 1}
    assert of_x != of_y


def test_blocks_are_random_but_repeatable():
    ordered = np.sort(RNG.normal(0, 1, 400))
    result = with_interval(lambda rows, _: ordered[rows].mean(), 400, 0, seed=0)
    assert half_width(result) == pytest.approx(2 * stats.sem(ordered), rel=0.5)
    assert result == with_interval(lambda rows, _: ordered[rows].mean(), 400, 0, seed=0)
    assert result != with_interval(lambda rows, _: ordered[rows].mean(), 400, 0, seed=1)


def test_interval_stays_within_its_bounds():
    def statistic(rows: np.ndarray, _: np.ndarray) -> float:
        return float(X[rows].mean())

    low, high = with_interval(statistic, 12, 0, seed=0)["ci95"]
    assert with_interval(statistic, 12, 0, seed=0, low=low + 0.1)["ci95"] == [low + 0.1, high]
    assert with_interval(statistic, 12, 0, seed=0, high=high - 0.1)["ci95"] == [low, high - 0.1]
    assert with_interval(statistic, 12, 0, seed=0, low=low - 1, high=high + 1)["ci95"] == [low, high]


def test_interval_covers_a_difference_of_means():
    intervals = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(1, 2, 60), rng.exponential(1, 45)
        result = with_interval(lambda a, b, x=x, y=y: x[a].mean() - y[b].mean(), 60, 45, seed=seed)
        intervals.append(result["ci95"])
    assert 0.91 <= share_within(intervals, 0) <= 0.985


def fid(seed: int) -> dict:
    x, y = features(100, 8, seed=2 * seed), features(80, 8, seed=2 * seed + 1, shift=1)
    return with_interval(lambda a, b: frechet_distance(x[a], y[b]), 100, 80, seed=seed)


def vendi(seed: int) -> dict:
    x = features(100, 8, seed=seed)
    return with_interval(lambda rows, _: vendi_score(x[rows]), 100, 0, seed=seed)


@pytest.mark.parametrize("metric", [fid, vendi])
def test_interval_is_as_wide_as_the_metric_varies_between_samples(metric):
    results = [metric(seed) for seed in range(120)]
    values = np.array([result["value"] for result in results])
    expected = stats.t.ppf(0.975, 19) * values.std()
    assert np.mean([half_width(result) for result in results]) == pytest.approx(expected, rel=0.2)
    assert 0.88 <= share_within([result["ci95"] for result in results], values.mean()) <= 0.99
