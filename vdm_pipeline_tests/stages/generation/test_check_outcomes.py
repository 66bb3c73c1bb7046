"""Checks of generated images."""

import numpy as np
import pytest

from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.generation.check_outcomes import (
    all_different,
    complete,
    grey_enough,
    prompts_fit,
    sound_pixels,
)

IMAGES = np.random.default_rng(0).integers(30, 220, size=(4, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        ({}, {"n": 3, "absent": 0, "not_planned": 0}),
        ({0: None}, {"n": 2, "absent": 1, "not_planned": 0}),
        ({0: {"seed": 9}}, {"n": 3, "absent": 1, "not_planned": 1}),
        ({0: {"prompt": "other"}}, {"n": 3, "absent": 1, "not_planned": 1}),
        ({0: {"label": "other"}}, {"n": 3, "absent": 1, "not_planned": 1}),
        ({0: {"file_name": "gen_007.png"}}, {"n": 3, "absent": 1, "not_planned": 1}),
    ],
)
def test_every_planned_image_must_exist(change, figures):
    planned = [{"file_name": f"gen_{i:03d}.png", "label": "a", "prompt": "b", "seed": i} for i in range(3)]
    rows = [row | (change.get(i) or {}) for i, row in enumerate(planned) if change.get(i, {}) is not None]
    outcome = complete(rows, planned)
    assert outcome.figures == figures
    assert outcome.passed is (not change)


def test_image_that_is_listed_twice_is_not_complete():
    planned = [{"file_name": "gen_000.png", "label": "a", "prompt": "b", "seed": 0}]
    assert complete(planned, planned).passed
    assert not complete(planned * 2, planned).passed


@pytest.mark.parametrize(
    ("row", "value", "figures"),
    [
        (None, 0, {"blank": 0, "saturated": 0}),
        (1, 90, {"blank": 1, "saturated": 0}),
        (1, 255, {"blank": 1, "saturated": 1}),
        (2, np.array([[0, 255] * 4] * 8), {"blank": 0, "saturated": 1}),
    ],
)
def test_blank_and_saturated_images_are_counted(row, value, figures):
    images = IMAGES.copy()
    if row is not None:
        images[row] = value
    outcome = sound_pixels(images, Faults())
    assert outcome.figures == figures
    assert outcome.passed is (row is None)
    assert sound_pixels(np.repeat(images[..., None], 3, axis=3), Faults()).figures == figures


def test_profile_sets_the_limits_of_blank_and_saturated():
    assert not sound_pixels(IMAGES, Faults(blank_std=100.0)).passed
    saturated = IMAGES.copy()
    saturated[0, :2] = 255
    assert sound_pixels(saturated, Faults(saturated_share=0.5)).passed
    assert not sound_pixels(saturated, Faults(saturated_share=0.25)).passed


def test_image_of_one_colour_is_blank():
    flat = np.full((1, 8, 8, 3), (200, 60, 90), np.uint8)
    assert sound_pixels(flat, Faults()).figures == {"blank": 1, "saturated": 0}
    flat[..., 1] = IMAGES[0]
    assert sound_pixels(flat, Faults()).passed


def test_repeated_images_are_counted():
    assert all_different(IMAGES).passed
    outcome = all_different(IMAGES[[0, 1, 0, 0]])
    assert not outcome.passed
    assert outcome.figures == {"repeated": 2}


@pytest.mark.parametrize(("chroma", "tinted"), [([0.0, 8.0], 0), ([8.01, 3.0], 1), ([9.0, 9.0], 2), ([], 0)])
def test_tinted_images_are_counted(chroma, tinted):
    outcome = grey_enough(chroma, 8.0, in_colour=False)
    assert outcome.passed is (not tinted)
    assert outcome.figures["tinted"] == tinted


def test_images_of_a_colour_archive_may_be_tinted():
    outcome = grey_enough([9.0, 3.0], 8.0, in_colour=True)
    assert outcome.passed
    assert "the archive is in colour" in outcome.sentence


@pytest.mark.parametrize(
    ("prompts", "tokens", "fault"),
    [
        (["a", "b"], 5, None),
        (["a", "c"], 5, "'c'"),
        (["a", "b"], 78, "'b' has 78 tokens"),
        (["a", "b"], 77, None),
    ],
)
def test_prompts_must_be_captions_and_short_enough(prompts, tokens, fault):
    outcome = prompts_fit(prompts, ["a", "b", "b"], {"a": 3, "b": tokens}, 77)
    assert outcome.passed is (fault is None)
    assert (fault or f"at most {tokens} tokens") in outcome.sentence
