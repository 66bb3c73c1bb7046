"""Values of single images, and their mean, against loops and against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from vdm_pipeline.stages.data.grey import chroma, to_grey
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval, sharpness
from vdm_pipeline_tests.planted import blur

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 12, 10), dtype=np.uint8)
RGB = RNG.integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)


def test_sharpness_against_scipy():
    cross = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    expected = [ndimage.convolve(image.astype(float), cross)[1:-1, 1:-1].var() for image in GREY]
    np.testing.assert_allclose(sharpness(GREY), expected)


def test_sharpness_falls_with_blur_and_is_zero_on_a_ramp():
    assert (sharpness(blur(GREY, sigma=1)) < sharpness(GREY)).all()
    ramp = np.tile(np.arange(0, 100, 10, dtype=np.uint8), (1, 12, 1))
    assert sharpness(ramp).tolist() == [0]


def test_sharpness_of_colour_is_that_of_its_grey():
    np.testing.assert_allclose(sharpness(np.repeat(GREY[..., None], 3, axis=3)), sharpness(GREY))
    np.testing.assert_allclose(sharpness(RGB), sharpness(to_grey(RGB)))


def test_chroma_is_the_mean_spread_of_the_channels():
    expected = [np.mean([max(map(int, p)) - min(map(int, p)) for p in image.reshape(-1, 3)]) for image in RGB]
    np.testing.assert_allclose(chroma(RGB), expected)
    assert chroma(GREY).tolist() == [0, 0, 0]
    assert chroma(np.repeat(GREY[..., None], 3, axis=3)).tolist() == [0, 0, 0]


def test_grey_is_the_mean_of_the_channels():
    assert to_grey(GREY) is GREY
    assert to_grey(RGB).dtype == np.uint8
    np.testing.assert_allclose(to_grey(RGB), RGB.astype(float).sum(3) / 3, atol=0.5)
    assert to_grey(np.full((1, 2, 2, 3), 255, np.uint8)).min() == 255


def test_mean_and_its_interval():
    values = RNG.normal(5, 2, 200)
    result = mean_with_interval(values, 2000, 0)
    half = 1.96 * values.std() / 200**0.5
    assert result["value"] == pytest.approx(values.mean())
    assert result["ci95"] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)
    assert result == mean_with_interval(values, 2000, 0)
    assert result["ci95"] != mean_with_interval(values, 2000, 1)["ci95"]
    assert mean_with_interval(np.full(5, 0.25), 10, 0) == {"value": 0.25, "ci95": [0.25, 0.25]}
