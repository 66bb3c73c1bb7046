"""Vendi score against its definition, MS-SSIM against torchmetrics and its formula, and cases by hand."""

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.evaluation.metrics import diversity
from vdm_pipeline.stages.evaluation.metrics.diversity import (
    ms_ssim_within,
    same_class_pairs,
    usable_scales,
    vendi_score,
)
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval
from vdm_pipeline_tests.stages.evaluation.metrics.samples import features

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


@pytest.mark.parametrize(
    ("n", "d"), [(30, 64), (64, 64), (90, 16)], ids=["few images", "as many", "few features"]
)
def test_vendi_against_the_definition(n, d):
    x = 3 * features(n, d, shift=1)
    cosines = np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in x] for a in x])
    root = linalg.logm(cosines / n + 1e-12 * np.eye(n))
    assert vendi_score(x) == pytest.approx(np.exp(-np.trace(cosines / n @ root)), abs=1e-4)


def test_vendi_solves_the_smaller_eigenvalue_problem(monkeypatch):
    solved, shapes = np.linalg.eigvalsh, []
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda gram: shapes.append(gram.shape) or solved(gram))
    vendi_score(features(90, 16))
    vendi_score(features(16, 90))
    assert shapes == [(16, 16), (16, 16)]


@pytest.mark.parametrize("n", [4, 30])
def test_vendi_of_equal_images_is_1_and_of_orthogonal_ones_their_number(n):
    assert vendi_score(np.tile([1.0, 2, 2, 0, 0, 0, 0, 0], (n, 1))) == pytest.approx(1)
    assert vendi_score(np.diag(np.arange(1.0, n + 1))) == pytest.approx(n)


@pytest.mark.parametrize("copies", [1, 2, 20])
def test_vendi_of_groups_is_the_number_of_groups(copies):
    two = np.array([[3.0, 0, 0, 0], [0, 5, 0, 0]])
    assert vendi_score(np.tile(two, (copies, 1))) == pytest.approx(2)
    one_in_four = np.concatenate([np.tile(two[:1], (3 * copies, 1)), np.tile(two[1:], (copies, 1))])
    assert vendi_score(one_in_four) == pytest.approx(4 / 3**0.75)


def test_vendi_ignores_the_norm_of_the_features():
    x = features(20, 8)
    assert vendi_score(x * np.arange(1, 21)[:, None]) == pytest.approx(vendi_score(x))


def textures(n: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth images that share a shape, uint8 ``[n, side, side]``."""
    noise = np.random.default_rng(seed).standard_normal((n + 1, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, side / 16, side / 16))
    return np.clip(127 + 40 * (smooth[0] + 0.7 * smooth[1:]) / smooth.std(), 0, 255).astype(np.uint8)


def brute_ms_ssim(a: np.ndarray, b: np.ndarray, used: int) -> float:
    """By its formula: contrast at every scale, luminance at the coarsest. Borders as in torchmetrics."""
    a, b, result, weights = a / 255, b / 255, 1.0, WEIGHTS[:used] / WEIGHTS[:used].sum()
    for scale in range(used):

        def blur(image: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(image, 1.5, mode="mirror", radius=5)

        mean_a, mean_b = blur(a), blur(b)
        variances = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
        similar = (2 * (blur(a * b) - mean_a * mean_b) + 0.03**2) / (variances + 0.03**2)
        if scale == used - 1:
            similar = similar * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        else:
            similar = similar[5:-5, 5:-5]
        result *= max(similar.mean(), 0) ** weights[scale]
        half = a.shape[0] // 2
        a, b = (image[: 2 * half, : 2 * half].reshape(half, 2, half, 2).mean((1, 3)) for image in (a, b))
    return result


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    return ms_ssim_within(np.stack([a, b]), np.zeros(2, np.int64), 10, 0)["value"]


@pytest.mark.parametrize(("side", "used"), [(28, 2), (64, 3), (65, 3), (128, 4), (256, 5)])
def test_similarity_of_a_pair_against_its_formula(side, used):
    for seed in range(3):
        a, b = textures(2, side, seed)
        expected = brute_ms_ssim(a, b, used)
        assert 0.05 < expected < 0.95
        assert similarity(a, b) == pytest.approx(expected, abs=1e-4)


def test_similarity_of_a_pair_against_torchmetrics_with_its_own_weights():
    for seed in range(2):
        a, b = textures(2, 256, seed)
        expected = ms_ssim(*(torch.from_numpy(image / 255)[None, None] for image in (a, b)), data_range=1.0)
        assert similarity(a, b) == pytest.approx(float(expected), abs=1e-4)


def test_similarity_is_1_for_the_same_image_falls_with_noise_and_is_0_for_the_negative():
    image = textures(1, 64)[0]
    rng = np.random.default_rng(0)
    little, much = (
        np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8) for sigma in (10, 100)
    )
    assert similarity(image, image) == pytest.approx(1)
    assert 1 > similarity(image, little) > 0.95 > 0.6 > similarity(image, much) > 0
    assert similarity(image, 255 - image) == 0
    repeated = ms_ssim_within(np.repeat(image[None], 6, axis=0), np.zeros(6, np.int64), 10, 0)
    assert [repeated["value"], *repeated["ci95"]] == pytest.approx([1, 1, 1])


def test_similarity_within_is_the_mean_over_pairs_of_a_class():
    images, labels = textures(18, 64), np.tile([0, 1, 0, 1, 1, 0, 1, 1, 2], 2)
    result = ms_ssim_within(images, labels, 500, 3)
    values = [brute_ms_ssim(images[a], images[b], 3) for a, b in same_class_pairs(labels, 3)]
    assert len(values) == 3 + 5 + 1
    assert result["value"] == pytest.approx(np.mean(values), abs=1e-4)
    assert result["ci95"] == pytest.approx(mean_with_interval(np.array(values), 500, 3)["ci95"], abs=1e-4)
    assert result == ms_ssim_within(images, labels, 500, 3)
    assert result["value"] != ms_ssim_within(images, labels, 500, 4)["value"]


def test_number_of_pairs_is_limited(monkeypatch):
    images, labels = textures(20, 28), np.zeros(20, np.int64)
    monkeypatch.setattr(diversity, "MAX_PAIRS", 4)
    values = [brute_ms_ssim(images[a], images[b], 2) for a, b in same_class_pairs(labels, 0)[:4]]
    assert ms_ssim_within(images, labels, 10, 0)["value"] == pytest.approx(np.mean(values), abs=1e-4)


def test_similarity_of_colour_images_is_that_of_their_grey_ones():
    colour = (
        np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), dtype=np.uint8) // 2
        + textures(4, 28)[..., None] // 2
    )
    labels = np.zeros(4, np.int64)
    assert ms_ssim_within(colour, labels, 10, 0) == ms_ssim_within(to_grey(colour), labels, 10, 0)


@pytest.mark.parametrize(
    ("labels", "side"),
    [([], 64), ([0], 64), ([0, 1, 2], 64), ([0, 0, 1, 1], 10)],
    ids=["no image", "one image", "one of each class", "smaller than the window"],
)
def test_similarity_within_needs_two_images_of_a_class_and_room_for_the_window(labels, side):
    assert ms_ssim_within(textures(len(labels), side), np.array(labels, np.int64), 10, 0) is None


def test_shorter_side_determines_the_scales():
    images = textures(2, 64)
    assert ms_ssim_within(images[:, :10], np.zeros(2, np.int64), 10, 0) is None
    assert ms_ssim_within(images[:, :, :10], np.zeros(2, np.int64), 10, 0) is None
    assert 0 < ms_ssim_within(images[:, :, :30], np.zeros(2, np.int64), 10, 0)["value"] < 1


def test_pairs_have_one_class_and_share_no_image():
    labels = np.random.default_rng(0).integers(0, 3, 101)
    pairs = same_class_pairs(labels, 0)
    assert pairs.shape == (sum(np.sum(labels == label) // 2 for label in range(3)), 2)
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    assert len(np.unique(pairs)) == pairs.size


def test_pairs_are_random_and_repeatable():
    labels = np.repeat([0, 1], 50)
    pairs = same_class_pairs(labels, 0)
    np.testing.assert_array_equal(pairs, same_class_pairs(labels, 0))
    assert set(map(frozenset, pairs)) != set(map(frozenset, same_class_pairs(labels, 1)))
    assert 5 < labels[pairs[:25, 0]].sum() < 20
    assert np.abs(pairs[:, 0] - pairs[:, 1]).mean() > 5


@pytest.mark.parametrize(
    ("side", "expected"), [(10, 0), (28, 2), (64, 3), (128, 4), (224, 5), (256, 5), (512, 5)]
)
def test_usable_scales_of_common_sizes(side, expected):
    assert usable_scales(side) == expected


@pytest.mark.parametrize(
    "sides", [range(5, 26), range(40, 46), (90, 91, 98, 99), (160, 161, 175, 176)], ids=str
)
def test_scales_are_the_most_that_torchmetrics_accepts(sides):
    def accepted(side: int, used: int) -> bool:
        image = torch.rand(1, 1, side, side)
        try:
            return bool(ms_ssim(image, image, data_range=1.0, betas=(1 / used,) * used).isfinite())
        except (ValueError, RuntimeError):
            return False

    most = {side: max((used for used in range(1, 6) if accepted(side, used)), default=0) for side in sides}
    assert {side: usable_scales(side) for side in sides} == most
