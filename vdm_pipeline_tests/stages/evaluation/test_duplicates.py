"""Duplicates by pixels and by distance."""

import numpy as np
import pytest

from vdm_pipeline.stages.evaluation.duplicates import exact_duplicates, pixel_copies, share_alike
from vdm_pipeline_tests.stages.evaluation.points import points


def test_exact_duplicates_are_counted():
    images = np.random.default_rng(0).integers(256, size=(5, 4, 4), dtype=np.uint8)
    assert exact_duplicates(images) == 0
    assert exact_duplicates(images[[0, 1, 0, 0, 2]]) == 2


def test_pixels_of_training_images_are_found_mirrored_and_in_colour():
    train = np.random.default_rng(0).integers(256, size=(5, 8, 8), dtype=np.uint8)
    images = np.stack([train[3], train[1][:, ::-1], train[0] ^ 1, train[2].T])
    assert pixel_copies(images, train) == 2
    assert pixel_copies(np.repeat(images[..., None], 3, axis=3), train) == 2


def test_share_alike_is_five_percent_for_images_as_diverse_as_real_ones():
    assert share_alike(points(300, 1), points(300, 2)) == pytest.approx(0.05, abs=0.03)


def test_share_alike_is_one_for_repeated_images_and_none_for_a_single_one():
    assert share_alike(np.repeat(points(10, 1), 30, axis=0), points(300, 2)) == 1
    assert share_alike(points(1, 1), points(300, 2)) is None
