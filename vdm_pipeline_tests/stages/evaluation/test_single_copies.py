"""One copy among new phantoms is found, whatever its kind, and nothing else is."""

import numpy as np
import pytest

from vdm_pipeline.stages.data.phantom.film import render_in_chunks
from vdm_pipeline.stages.evaluation.class_matching import rows_with_class_shares
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.pixels import PixelSpace, distances_in_any_orientation
from vdm_pipeline.stages.evaluation.results import SingleCopies
from vdm_pipeline.stages.evaluation.single_copies import FALSE_ALARM_RATE, find_single_copies, ratio_limit
from vdm_pipeline_tests.copied import COPIES, HARDER_COPIES

TRAIN, HELD_OUT, NEW = slice(0, 80), slice(80, 320), slice(320, 384)
LABELS = np.arange(384) % 2
PLANTED, COPIED = 5, 17
ORIENTATIONS = {"mirrored", "upside down", "inverted"}


@pytest.fixture(scope="module")
def phantoms() -> np.ndarray:
    indices = np.arange(384, dtype=np.int64)
    return np.concatenate(list(render_in_chunks(3, indices, LABELS == 1, 32, 384)))


def search(arms: dict[str, np.ndarray], phantoms: np.ndarray, held_out: slice = HELD_OUT) -> SingleCopies:
    return find_single_copies(
        arms, (phantoms[TRAIN], LABELS[TRAIN]), (phantoms[held_out], LABELS[held_out]), NAMES, 0
    )


NAMES = ImageNames(
    generated=[f"gen_{i:03d}.png" for i in range(64)],
    train=[f"train_{i:06d}" for i in range(80)],
    held_out=[f"val_{i:06d}" for i in range(240)],
)


@pytest.mark.parametrize("name", COPIES)
def test_a_single_copy_is_found_and_named(phantoms, name):
    images = phantoms[NEW].copy()
    images[PLANTED] = COPIES[name](phantoms[COPIED : COPIED + 1])[0]
    result = search({"baseline": phantoms[NEW], "lora": images}, phantoms)
    (copy,) = result.found
    assert (copy.arm, copy.file_name, copy.train_image) == ("lora", "gen_005.png", "train_000017")
    assert copy.orientation == (name if name in ORIENTATIONS else "")
    assert copy.ratio < result.limit
    assert copy.held_out_image in NAMES.held_out
    assert (result.n, result.n_held_out) == (128, 240)


@pytest.mark.parametrize("seed", range(4))
def test_new_phantoms_are_not_copies_and_the_test_is_sensitive(phantoms, seed):
    shuffled = phantoms.copy()
    for label in (0, 1):
        rows = np.arange(label, 384, 2)
        shuffled[rows] = phantoms[np.random.default_rng(seed).permutation(rows)]
    result = search({"lora": shuffled[NEW]}, shuffled)
    assert result.found == [] and result.sensitivity >= 0.95
    assert result.false_alarm_rate == FALSE_ALARM_RATE


def test_a_blurred_set_is_not_copied(phantoms):
    blurred = HARDER_COPIES["blurred, σ = 1 pixel"](phantoms[NEW])
    assert search({"lora": blurred}, phantoms).found == []


def test_copies_of_held_out_images_are_not_copies_of_training_images(phantoms):
    assert search({"lora": phantoms[HELD_OUT][:64]}, phantoms).found == []


def test_many_copies_are_all_found_closest_first(phantoms):
    images = COPIES["noise of 3 %"](phantoms[TRAIN][:64])
    ratios = [copy.ratio for copy in search({"lora": images}, phantoms).found]
    assert len(ratios) >= 60 and ratios == sorted(ratios)


def test_training_images_among_the_held_out_ones_do_not_hide_a_copy(phantoms):
    leaked = phantoms.copy()
    leaked[HELD_OUT][:10] = phantoms[TRAIN][20:30]
    images = leaked[NEW].copy()
    images[PLANTED] = COPIES["JPEG, quality 90"](leaked[COPIED : COPIED + 1])[0]
    assert [copy.file_name for copy in search({"lora": images}, leaked).found] == ["gen_005.png"]


def test_few_held_out_images_make_the_test_insensitive(phantoms):
    few, too_few = (search({"lora": phantoms[NEW]}, phantoms, slice(80, 80 + n)) for n in (24, 16))
    assert few.sensitivity < 0.95 and few.limit < 0.1
    assert (too_few.n_held_out, too_few.limit, too_few.sensitivity, too_few.found) == (16, None, None, [])


def test_held_out_images_without_a_class_are_not_enough(phantoms):
    held_out = phantoms[HELD_OUT], np.zeros(240, int)
    result = find_single_copies({"lora": phantoms[NEW]}, (phantoms[TRAIN], LABELS[TRAIN]), held_out, NAMES, 0)
    assert (result.n, result.n_held_out, result.limit) == (64, 0, None)


def test_no_images_give_no_result(phantoms):
    assert search({}, phantoms).limit is None


def test_limit_is_stricter_for_more_images():
    ratios = np.exp(np.random.default_rng(0).logistic(0, 0.08, 300))
    limits = [ratio_limit(ratios, n) for n in (1, 100, 10_000)]
    assert limits == sorted(limits, reverse=True)


def test_a_ratio_below_the_limit_is_as_rare_as_stated():
    """Over 500 images of 2,000 runs whose log-ratios are logistic, as they are by the power law."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(2000):
        held_out, new = np.exp(rng.logistic(0, 0.08, 250)), np.exp(rng.logistic(0, 0.08, 500))
        alarms += new.min() < ratio_limit(held_out, 500)
    assert alarms <= 8  # 2 are expected; 9 or more have a probability of 0.0002


def test_the_nearest_held_out_image_is_named_although_some_are_left_out(phantoms):
    """The images of class 1 are only half as many, so half of class 0 is left out."""
    rows = np.concatenate([np.arange(80, 320, 2), np.arange(81, 201, 2)])
    images = phantoms[NEW].copy()
    images[PLANTED] = phantoms[COPIED]
    (copy,) = find_single_copies(
        {"lora": images},
        (phantoms[TRAIN], LABELS[TRAIN]),
        (phantoms[rows], LABELS[rows]),
        NAMES,
        0,
    ).found
    kept = rows_with_class_shares(LABELS[TRAIN], LABELS[rows], 0)
    space = PixelSpace(np.concatenate([phantoms[TRAIN], phantoms[rows[kept]]]))
    to_held_out = distances_in_any_orientation(
        space.flipped(phantoms[COPIED : COPIED + 1]), space(phantoms[rows[kept]])
    )
    assert copy.held_out_image == NAMES.held_out[kept[to_held_out.argmin()]]
    assert len(kept) == 120 and not np.array_equal(kept, np.arange(120))
