"""Image metrics against loops and against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from vdm_pipeline.stages.metrics.images import chroma, kernel_distance, mean_with_interval, sharpness, to_grey

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 12, 10), dtype=np.uint8)
RGB = RNG.integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)


def features(n: int, d: int = 8, shift: float = 0.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    dot = 0.0
    for left, right in zip(a, b, strict=True):
        dot += left * right
    return (dot / len(a) + 1) ** 3


def brute_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD by its definition."""
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_distance_against_loops():
    x, y = features(7, 4), features(5, 4, 0.5, seed=2)
    assert kernel_distance(x, y)["value"] == pytest.approx(brute_distance(x, y))


def test_interval_against_leaving_one_out():
    x, y = features(6, 4), features(9, 4, 0.5, seed=2)
    without_x = [brute_distance(np.delete(x, i, axis=0), y) for i in range(6)]
    without_y = [brute_distance(x, np.delete(y, i, axis=0)) for i in range(9)]
    variance = 0.0
    for values in (without_x, without_y):
        centre = sum(values) / len(values)
        variance += (len(values) - 1) / len(values) * sum((value - centre) ** 2 for value in values)
    value, half = brute_distance(x, y), 1.959964 * variance**0.5
    assert kernel_distance(x, y)["ci95"] == pytest.approx([value - half, value + half])


def test_distance_against_torchmetrics():
    image = pytest.importorskip("torchmetrics.image.kid")
    torch = pytest.importorskip("torch")
    x, y = features(20), features(20, shift=0.3, seed=2)
    theirs = image.poly_mmd(torch.from_numpy(x), torch.from_numpy(y), 3, None, 1.0)
    assert kernel_distance(x, y)["value"] == pytest.approx(float(theirs))


def test_distance_is_symmetric_and_blind_to_order():
    x, y = features(30), features(20, shift=0.4, seed=2)
    there, back = kernel_distance(x, y), kernel_distance(y, x)
    assert there["value"] == pytest.approx(back["value"])
    assert there["ci95"] == pytest.approx(back["ci95"])
    mixed = kernel_distance(RNG.permutation(x), RNG.permutation(y))
    assert mixed["value"] == pytest.approx(there["value"])
    assert mixed["ci95"] == pytest.approx(there["ci95"])


def test_distance_is_near_zero_for_halves_and_grows_with_the_shift():
    sample = features(400)
    same = kernel_distance(sample[:200], sample[200:])
    near, far = (kernel_distance(sample[:200], sample[200:] + shift) for shift in (0.4, 0.8))
    assert abs(same["value"]) < 0.03
    assert same["ci95"][0] < 0 < same["ci95"][1]
    assert near["ci95"][0] > 0
    assert near["ci95"][1] < far["ci95"][0]


def test_distance_is_unbiased():
    values = [kernel_distance(features(10, seed=2 * i), features(10, seed=2 * i + 1))["value"] for i in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5
    assert min(values) < 0 < max(values)


def test_interval_covers_the_distance():
    truth = kernel_distance(features(1500, seed=0), features(1500, shift=0.5, seed=1))["value"]
    intervals = [kernel_distance(features(40, seed=2 * i + 2), features(40, shift=0.5, seed=2 * i + 3))["ci95"] for i in range(100)]
    assert sum(low <= truth <= high for low, high in intervals) >= 85


@pytest.mark.parametrize(("n", "m"), [(2, 5), (5, 2), (0, 5)])
def test_too_few_images_are_refused(n, m):
    with pytest.raises(ValueError, match=f"needs 3 images a set; there are {n} and {m}"):
        kernel_distance(features(n), features(m))
    assert np.isfinite(kernel_distance(features(3), features(3, seed=2))["ci95"]).all()


def test_sharpness_against_scipy():
    cross = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    expected = [ndimage.convolve(image.astype(float), cross)[1:-1, 1:-1].var() for image in GREY]
    np.testing.assert_allclose(sharpness(GREY), expected)


def test_sharpness_falls_with_blur_and_is_zero_on_a_ramp():
    blurred = np.stack([ndimage.gaussian_filter(image.astype(float), 1).astype(np.uint8) for image in GREY])
    assert (sharpness(blurred) < sharpness(GREY)).all()
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
    assert result["ci95"] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.06)
    assert result == mean_with_interval(values, 2000, 0)
    assert result["ci95"] != mean_with_interval(values, 2000, 1)["ci95"]
    assert mean_with_interval(np.full(5, 0.25), 10, 0) == {"value": 0.25, "ci95": [0.25, 0.25]}
