"""The checks' pure functions, on what they must pass and on what they must not."""

import pandas as pd
import pytest

from vdm_pipeline.checks import balanced, every_class_predicted, not_blank, same_plan, sound_table

NAMES = ("normal", "pneumonia")
NAN = float("nan")


def arms() -> tuple[list[dict], list[dict]]:
    """Two rows an arm, alike but for the adapter."""
    shared = [
        {"file_name": f"gen_{i:03d}.png", "label": NAMES[i], "prompt": "p", "seed": i, "steps": 4, "guidance_scale": 1.0, "base_model": "b"}
        for i in range(2)
    ]
    return [row | {"adapters": {"lcm": 1.0, "lora": 1.0}} for row in shared], [row | {"adapters": {"lcm": 1.0}} for row in shared]


def table(**changes: list) -> pd.DataFrame:
    return pd.DataFrame({"image_id": ["a", "b", "c"], "confidence_score": [0.0, 0.7, 1.0]} | changes)


def test_every_class_must_be_predicted():
    good = every_class_predicted(["pneumonia", "normal", "normal"], NAMES)
    assert good.passed
    assert good.figures == {"n_normal": 2, "n_pneumonia": 1}
    bad = every_class_predicted(["normal"] * 3, NAMES)
    assert not bad.passed
    assert bad.sentence == "never predicted: pneumonia"
    assert not every_class_predicted([], NAMES).passed


def test_sound_table_passes():
    assert sound_table(table(), 3).passed


@pytest.mark.parametrize(
    ("changes", "rows", "sentence"),
    [
        ({"image_id": ["a", "b", "a"]}, 3, "1 repeated ids"),
        ({"confidence_score": [0.5, NAN, 0.5]}, 3, "1 confidences outside"),
        ({"confidence_score": [1.01, -0.01, 0.5]}, 3, "2 confidences outside"),
        ({"confidence_score": [float("inf"), 0.5, 0.5]}, 3, "1 confidences outside"),
        ({}, 4, "3 rows for 4 images"),
        ({}, 2, "3 rows for 2 images"),
        ({"image_id": ["a", "a", "a"], "confidence_score": [NAN] * 3}, 3, "2 repeated ids; 3 confidences"),
    ],
)
def test_damaged_table_fails(changes, rows, sentence):
    finding = sound_table(table(**changes), rows)
    assert not finding.passed
    assert sentence in finding.sentence


@pytest.mark.parametrize(
    ("labels", "passed"),
    [
        (["normal", "pneumonia"] * 3, True),
        (["normal"] * 3 + ["pneumonia"] * 2, False),
        (["normal"] * 3, False),
        ([], False),
    ],
)
def test_balance(labels, passed):
    assert balanced(labels, NAMES).passed is passed


def test_arms_that_differ_in_our_adapter_alone_pass():
    assert same_plan(*arms()).passed


@pytest.mark.parametrize("key", ["file_name", "label", "prompt", "seed", "steps", "guidance_scale", "base_model"])
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


@pytest.mark.parametrize(("deviations", "blank"), [([50.0, 4.0], 0), ([50.0, 3.99], 1), ([0.0, 0.0], 2), ([NAN, 50.0], 1), ([NAN, 0.0], 2)])
def test_blank_images_are_counted(deviations, blank):
    finding = not_blank(deviations)
    assert finding.passed is (blank == 0)
    assert finding.figures == {"blank": blank}


def test_finding_becomes_a_check_result():
    result = balanced(["normal"], NAMES).result()
    assert not result.passed
    assert result.description == "1 normal, 0 pneumonia"
