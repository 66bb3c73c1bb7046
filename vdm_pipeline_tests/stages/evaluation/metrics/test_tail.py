"""The limit of a tail: against scipy's F distribution and simulation."""

import numpy as np
import pytest
from scipy.stats import f

from vdm_pipeline.stages.evaluation.metrics.tail import MIN_SAMPLE, tail_limit


def sample(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).logistic(size=n)


@pytest.mark.parametrize(("n", "m", "c"), [(20, 4, 1), (100, 20, 5), (270, 54, 14)])
def test_probability_of_the_limit_by_the_f_distribution(n, m, c):
    values = sample(n)
    limit = tail_limit(values, 1e-5)
    ordered = sorted(values, reverse=True)
    threshold, kept = ordered[m], ordered[c:m]
    scale = (sum(kept) + c * kept[0] - m * threshold) / (m - c)
    probability = (m + 1) / (n + 1) * f.sf((limit - threshold) / scale, 2, 2 * (m - c))
    assert probability == pytest.approx(1e-5)


@pytest.mark.parametrize(("n", "probability"), [(40, 0.01), (300, 0.01), (300, 0.002)])
def test_a_new_value_exceeds_the_limit_with_the_probability(n, probability):
    rng = np.random.default_rng(1)
    exceeds = [
        rng.exponential(size=200) > tail_limit(rng.exponential(size=n), probability) for _ in range(4000)
    ]
    assert np.mean(exceeds) == pytest.approx(probability, rel=0.15)


def test_a_logistic_tail_is_not_underestimated():
    rng = np.random.default_rng(2)
    exceeds = [rng.logistic(size=200) > tail_limit(rng.logistic(size=100), 0.002) for _ in range(4000)]
    assert 0.001 < np.mean(exceeds) < 0.0023


def test_limit_moves_and_scales_with_the_values():
    values = sample(100)
    assert tail_limit(3 * values + 7, 1e-4) == pytest.approx(3 * tail_limit(values, 1e-4) + 7)


def test_a_smaller_sample_and_a_smaller_probability_give_a_farther_limit():
    def mean_limit(n: int, probability: float) -> float:
        return float(np.mean([tail_limit(sample(n, seed), probability) for seed in range(200)]))

    assert mean_limit(40, 1e-4) > mean_limit(100, 1e-4) > mean_limit(400, 1e-4) > mean_limit(400, 1e-3)


def test_outliers_hardly_move_the_limit():
    values = np.sort(sample(200))
    with_outliers = np.concatenate([values[:-5], [100, 200, 300, 400, 500]])
    assert tail_limit(with_outliers, 1e-5) == tail_limit(values, 1e-5)


@pytest.mark.parametrize(("n", "probability"), [(MIN_SAMPLE - 1, 0.01), (100, 0.5), (100, 0.0)])
def test_no_limit_without_a_tail(n, probability):
    with pytest.raises(ValueError, match="no limit"):
        tail_limit(sample(n), probability)
