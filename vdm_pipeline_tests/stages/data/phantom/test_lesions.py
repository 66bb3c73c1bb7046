"""Drawn opacities have the statistics of the published boxes."""

import numpy as np
import pytest

from vdm_pipeline.stages.data.phantom.lesions import draw_lesions

LEVELS = (0.05, 0.25, 0.50, 0.75, 0.95)
WIDTH = (0.121, 0.173, 0.212, 0.253, 0.310)
HEIGHT = (0.118, 0.198, 0.291, 0.428, 0.608)
CENTRE_Y = (0.334, 0.444, 0.519, 0.595, 0.703)
CENTRE_X_LEFT = (0.215, 0.275, 0.312, 0.352, 0.415)
CENTRE_X_RIGHT = (0.600, 0.659, 0.697, 0.735, 0.792)


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    """Opacities of 6,000 films."""
    rng = np.random.Generator(np.random.Philox(key=7))
    return [draw_lesions(rng) for _ in range(6000)]


def test_number_of_opacities(films):
    shares = np.bincount([len(film) for film in films], minlength=5)[1:] / len(films)
    np.testing.assert_allclose(shares, np.array([2614, 3266, 119, 13]) / 6012, atol=0.02)


def test_sizes_and_positions(films):
    x, y, width, height = np.concatenate(films).T
    for values, published in ((width, WIDTH), (height, HEIGHT), (y, CENTRE_Y)):
        np.testing.assert_allclose(np.quantile(values, LEVELS), published, atol=0.012)
    np.testing.assert_allclose(np.quantile(x[x < 0.5], LEVELS), CENTRE_X_LEFT, atol=0.012)
    np.testing.assert_allclose(np.quantile(x[x >= 0.5], LEVELS), CENTRE_X_RIGHT, atol=0.012)


def test_sides(films):
    assert np.mean(np.concatenate(films)[:, 0] < 0.5) == pytest.approx(0.535, abs=0.015)
    assert all((film[0, 0] < 0.5) != (film[1, 0] < 0.5) for film in films if len(film) > 1)


def test_same_random_stream_gives_the_same_lesions():
    first, second = (draw_lesions(np.random.Generator(np.random.Philox(key=3))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
