"""What is found wrong with generated images."""

import numpy as np
import pytest

from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.evaluation.check_outcomes import (
    adapter_acts,
    closer_than_baseline,
    copies,
    same_plan,
)
from vdm_pipeline.stages.generation.check_outcomes import (
    all_different,
    complete,
    grey_enough,
    prompts_fit,
    sound_pixels,
)

NAMES = ("normal", "pneumonia")
IMAGES = np.random.default_rng(0).integers(30, 220, size=(4, 8, 8), dtype=np.uint8)


def arms() -> tuple[list[dict], list[dict]]:
    """Two rows an arm, alike but for the adapter."""
    shared = [
        {
            "file_name": f"gen_{i:03d}.png",
            "label": NAMES[i],
            "prompt": "p",
            "seed": i,
            "steps": 4,
            "guidance_scale": 1.0,
            "size": 8,
            "scheduler": "lcm",
            "lcm_sha256": "c",
            "grey": True,
            "base_model": "b",
        }
        for i in range(2)
    ]
    return [row | {"adapters": {"lcm": 1.0, "lora": 1.0}} for row in shared], [
        row | {"adapters": {"lcm": 1.0}} for row in shared
    ]


def test_arms_that_differ_in_our_adapter_alone_pass():
    assert same_plan(*arms()).passed


@pytest.mark.parametrize(
    "key",
    [
        "file_name",
        "label",
        "prompt",
        "seed",
        "steps",
        "guidance_scale",
        "size",
        "grey",
        "base_model",
        "scheduler",
        "lcm_sha256",
    ],
)
def test_arms_of_two_plans_fail(key):
    generated, baseline = arms()
    baseline[1][key] = "other"
    assert not same_plan(generated, baseline).passed


def test_an_arm_with_fewer_images_fails():
    generated, baseline = arms()
    assert not same_plan(generated, baseline[:1]).passed
    assert not same_plan([], []).passed


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"lcm": 1.0}, {"lcm": 1.0}),
        ({"lcm": 1.0, "lora": 1.0}, {"lcm": 1.0, "lora": 1.0}),
        ({"lcm": 1.0, "lora": 1.0}, {}),
        ({"lcm": 1.0, "lora": 1.0}, {"lcm": 1.0, "other": 1.0}),
        ({"lcm": 1.0, "lora": 1.0}, {"lcm": 0.5}),
    ],
)
def test_arms_that_differ_in_other_than_our_adapter_fail(mine, theirs):
    generated, baseline = arms()
    for row in generated:
        row["adapters"] = mine
    for row in baseline:
        row["adapters"] = theirs
    assert not same_plan(generated, baseline).passed


def test_one_image_without_our_adapter_fails():
    generated, baseline = arms()
    generated[1]["adapters"] = {"lcm": 1.0}
    assert not same_plan(generated, baseline).passed


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
def test_every_planned_image_must_be_there(change, figures):
    planned = [{"file_name": f"gen_{i:03d}.png", "label": "a", "prompt": "b", "seed": i} for i in range(3)]
    rows = [
        {**row, **(change.get(i) or {})} for i, row in enumerate(planned) if change.get(i, {}) is not None
    ]
    finding = complete(rows, planned)
    assert finding.figures == figures
    assert finding.passed is (not change)


def test_an_image_that_stands_twice_is_not_complete():
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
    finding = sound_pixels(images, Faults())
    assert finding.figures == figures
    assert finding.passed is (row is None)
    assert sound_pixels(np.repeat(images[..., None], 3, axis=3), Faults()).figures == figures


def test_images_are_blank_and_saturated_by_the_limits_of_the_profile():
    assert not sound_pixels(IMAGES, Faults(blank_std=100.0)).passed
    burnt = IMAGES.copy()
    burnt[0, :2] = 255
    assert sound_pixels(burnt, Faults(saturated_share=0.5)).passed
    assert not sound_pixels(burnt, Faults(saturated_share=0.25)).passed


def test_an_image_of_one_colour_is_blank():
    flat = np.full((1, 8, 8, 3), (200, 60, 90), np.uint8)
    assert sound_pixels(flat, Faults()).figures == {"blank": 1, "saturated": 0}
    flat[..., 1] = IMAGES[0]
    assert sound_pixels(flat, Faults()).passed


def test_repeated_images_are_counted():
    assert all_different(IMAGES).passed
    finding = all_different(IMAGES[[0, 1, 0, 0]])
    assert not finding.passed
    assert finding.figures == {"repeated": 2}


@pytest.mark.parametrize(("chroma", "tinted"), [([0.0, 8.0], 0), ([8.01, 3.0], 1), ([9.0, 9.0], 2), ([], 0)])
def test_tinted_images_are_counted(chroma, tinted):
    finding = grey_enough(chroma, 8.0)
    assert finding.passed is (not tinted)
    assert finding.figures["tinted"] == tinted


def test_adapter_that_leaves_one_image_as_it_was_is_found():
    baseline = IMAGES.copy()
    baseline[1:] += 3
    finding = adapter_acts(IMAGES, baseline, 1.0)
    assert not finding.passed
    assert finding.figures == {"same": 1, "change": pytest.approx(9 / 4)}
    baseline[0, 0, 0] -= 1
    assert adapter_acts(IMAGES, baseline, 1.0).figures["same"] == 1  # one level in one pixel is rounding
    baseline[0] += 1
    assert not adapter_acts(IMAGES, baseline, 1.0).passed
    baseline[0, 0, 0] += 1
    assert adapter_acts(IMAGES, baseline, 1.0).passed
    assert not adapter_acts(IMAGES, baseline[:2], 1.0).passed


@pytest.mark.parametrize(
    ("prompts", "tokens", "says"),
    [
        (["a", "b"], 5, None),
        (["a", "c"], 5, "no caption of the subset reads 'c'"),
        (["a", "b"], 78, "'b' has 78 tokens, and 77 are read"),
        (["a", "b"], 77, None),
    ],
)
def test_prompts_are_captions_and_short_enough(prompts, tokens, says):
    finding = prompts_fit(prompts, ["a", "b", "b"], {"a": 3, "b": tokens}, 77)
    assert finding.passed is (says is None)
    assert (says or "prompts are the captions") in finding.sentence


def metrics(lora: tuple, baseline: tuple, second: tuple | None = None) -> dict:
    def kid(low: float, high: float) -> dict:
        return {"value": (low + high) / 2, "ci95": [low, high]}

    arms = {"lora": lora, "baseline": baseline}
    found = {
        name: {"overall": {"kid": kid(*ends), "independent": {"kid": kid(*ends)}}}
        for name, ends in arms.items()
    }
    if second:
        found["lora"]["overall"]["independent"]["kid"] = kid(*second)
    return {"feature_spaces": {"labeller": "", "independent": ""}, **found}


@pytest.mark.parametrize(
    ("lora", "baseline", "second", "passed"),
    [
        ((0, 1), (2, 3), None, True),
        ((0, 2.1), (2, 3), None, False),
        ((4, 5), (2, 3), None, False),
        ((0, 1), (2, 3), (1, 2.5), False),
    ],
)
def test_adapter_must_bring_images_closer_in_both_spaces_beyond_the_intervals(lora, baseline, second, passed):
    assert closer_than_baseline(metrics(lora, baseline, second)).passed is passed


def test_unmeasured_distances_prove_nothing():
    images = metrics((0, 1), (2, 3))
    images["lora"]["overall"]["kid"] = None
    assert not closer_than_baseline(images).passed
    assert not closer_than_baseline({}).passed


def arm_of(
    labeller: tuple, independent: tuple = (0.0, 1.0), *, exact: int = 0, n_held_out: int = 100
) -> dict:
    """What is found of an arm: the share of copies and its p in each space."""
    ends = {"labeller": labeller, "independent": independent}
    found = {
        n: {"copied": {"value": v, "ci95": [v, v]}, "p_copied": p, "n_held_out": n_held_out}
        for n, (v, p) in ends.items()
    }
    return found | {"duplicates": {"of_training": exact}}


FAIR = (0.0, 0.5)


@pytest.mark.parametrize(
    ("labeller", "independent", "state"),
    [
        (FAIR, (0.02, 0.001), "none"),
        ((0.03, 0.009), FAIR, "some"),
        (FAIR, (0.03, 0.009), "some"),
        ((0.03, 0.01), FAIR, "unclear"),
        ((1.0, 0.0), (1.0, 0.0), "some"),
    ],
)
@pytest.mark.parametrize("name", ["lora", "baseline", "weight_150"])
def test_copies_are_too_many_and_not_by_chance_in_any_space_of_any_arm(name, labeller, independent, state):
    arms = {
        "real": arm_of((1, 0), (1, 0), exact=9, n_held_out=1),
        "lora": arm_of(FAIR),
        name: arm_of(labeller, independent),
    }
    found = copies({"arms": arms}, 0.02)
    assert found.state == state and found.finding.passed is (state == "none")
    assert ("beyond what chance explains" in found.sentence) is (state == "some")
    assert state == "none" or name in found.sentence


def test_the_arm_that_copies_is_named_before_one_that_seems_to():
    sentence = copies({"arms": {"lora": arm_of((0.05, 0.5), (0.03, 0.001))}}, 0.02).sentence
    assert (
        "(lora, independent" in sentence and "p = 0.001" in sentence and "checks.max_copied is 2%" in sentence
    )


@pytest.mark.parametrize(("n_held_out", "state"), [(0, "unclear"), (99, "unclear"), (100, "none")])
def test_no_copies_is_not_said_where_it_cannot_be_told(n_held_out, state):
    memorization = {"arms": {"lora": arm_of(FAIR), "dpm25": arm_of(FAIR)}}
    memorization["arms"]["dpm25"]["independent"] |= {"n_held_out": n_held_out} | (
        {} if n_held_out else {"copied": None, "p_copied": None}
    )
    found = copies(memorization, 0.02)
    assert found.state == state
    assert state == "none" or f"cannot be told by {n_held_out} held-out images" in found.sentence


def test_one_image_with_the_pixels_of_a_training_image_is_a_copy():
    found = copies({"arms": {"lora": arm_of(FAIR), "dpm25": arm_of(FAIR, exact=1)}}, 0.02)
    assert found.state == "some" and "1 of the images (dpm25) have the pixels" in found.sentence
    assert (found.figures["exact_dpm25"], found.figures["exact_lora"]) == (1, 0)


@pytest.mark.parametrize(
    "gone", [("lora",), ("lora", "independent"), ("dpm25", "labeller"), ("lora", "duplicates")]
)
def test_what_is_not_measured_is_not_judged(gone):
    arms = {"lora": arm_of(FAIR), "dpm25": arm_of(FAIR)}
    (arms if len(gone) == 1 else arms[gone[0]]).pop(gone[-1])
    with pytest.raises(KeyError):
        copies({"arms": arms}, 0.02)
