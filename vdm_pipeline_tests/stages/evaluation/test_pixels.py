"""Distances by pixels, against brute force over all orientations."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.evaluation.pixels import (
    SIDE,
    PixelSpace,
    describe_orientation,
    distances_in_any_orientation,
    standardized_pixels,
)

ORIENTATIONS = {
    "": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "upside down": lambda images: images[:, ::-1],
    "turned by 180 degrees": lambda images: images[:, ::-1, ::-1],
    "inverted": lambda images: 255 - images,
    "mirrored, inverted": lambda images: 255 - images[:, :, ::-1],
    "turned by 180 degrees, inverted": lambda images: 255 - images[:, ::-1, ::-1],
}


def smooth_images(n: int, seed: int, side: int = SIDE) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (n, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2))
    return np.clip(128 + 30 * smooth / smooth.std(), 0, 255).astype(np.uint8)


IMAGES, OTHERS = smooth_images(20, 0), smooth_images(15, 1)


def test_product_is_the_correlation():
    products = standardized_pixels(IMAGES) @ standardized_pixels(OTHERS).T
    both = np.concatenate([IMAGES, OTHERS]).reshape(35, -1)
    np.testing.assert_allclose(products, np.corrcoef(both)[:20, 20:], atol=1e-12)


def test_distance_is_the_smallest_over_all_orientations():
    space = PixelSpace(np.concatenate([IMAGES, OTHERS]))
    expected = np.full((20, 15), np.inf)
    for axes, sign in itertools.product([(), (1,), (2,), (1, 2)], [1, -1]):
        turned = sign * standardized_pixels(np.flip(IMAGES, axes)) @ space.components
        apart = np.linalg.norm(turned[:, None] - space(OTHERS)[None], axis=2)
        expected = np.minimum(expected, apart)
    distances = distances_in_any_orientation(space.flipped(IMAGES), space(OTHERS))
    np.testing.assert_allclose(distances, expected, atol=1e-9)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_turned_image_is_at_distance_0_and_described(name):
    space = PixelSpace(np.concatenate([IMAGES, OTHERS]))
    turned, features = space.flipped(ORIENTATIONS[name](IMAGES)), space(IMAGES)
    assert np.diagonal(distances_in_any_orientation(turned, features)).max() < 1e-6
    assert {describe_orientation(turned[:, row], features[row]) for row in range(20)} == {name}


def test_brightness_and_contrast_do_not_matter():
    space = PixelSpace(np.concatenate([IMAGES, OTHERS]))
    darker = np.round(IMAGES * 0.8 + 10).astype(np.uint8)
    distances = distances_in_any_orientation(space.flipped(darker), space(IMAGES))
    assert np.diagonal(distances).max() < 0.01 < 0.5 < np.min(distances + 9 * np.eye(20))


def test_components_keep_the_largest_variance_of_the_real_images():
    real = smooth_images(300, 2)
    space, pixels = PixelSpace(real), standardized_pixels(real)
    scale = np.linalg.svd(pixels, compute_uv=False)
    kept = (space(real) ** 2).sum()
    assert kept == pytest.approx((scale[:64] ** 2).sum())
    np.testing.assert_allclose(space.components.T @ space.components, np.eye(64), atol=1e-9)


def test_colour_and_larger_images_become_small_grey_ones():
    large = smooth_images(4, 3, side=64)
    expected = standardized_pixels(resize(large, SIDE))
    np.testing.assert_array_equal(standardized_pixels(np.repeat(large[..., None], 3, axis=3)), expected)


def test_a_blank_image_has_finite_distances():
    space = PixelSpace(IMAGES)
    blank = np.full((1, SIDE, SIDE), 7, np.uint8)
    distances = distances_in_any_orientation(space.flipped(blank), space(IMAGES))
    assert np.isfinite(distances).all() and distances.min() > 0.5
