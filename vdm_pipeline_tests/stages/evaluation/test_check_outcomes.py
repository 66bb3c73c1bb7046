"""Checks of the comparison between arms."""

import numpy as np
import pytest

from vdm_pipeline.stages.evaluation.check_outcomes import (
    SHARED_KEYS,
    adapter_acts,
    closer_than_baseline,
    same_plan,
)

IMAGES = np.random.default_rng(0).integers(30, 220, size=(4, 8, 8), dtype=np.uint8)
ROW = {
    "label": "normal",
    "prompt": "p",
    "steps": 4,
    "guidance_scale": 1.0,
    "size": 8,
    "scheduler": "lcm",
    "lcm_sha256": "c",
    "grey": True,
    "base_model": "b",
}


def arms() -> tuple[list[dict], list[dict]]:
    """Two rows per arm, which differ only in the LoRA."""
    rows = [ROW | {"file_name": f"gen_{i:03d}.png", "seed": i} for i in range(2)]
    generated = [row | {"adapters": {"lcm": 1.0, "lora": 1.0}} for row in rows]
    return generated, [row | {"adapters": {"lcm": 1.0}} for row in rows]


def test_arms_that_differ_only_in_the_trained_lora_pass():
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
def test_arms_with_different_plans_fail(key):
    assert key in SHARED_KEYS
    generated, baseline = arms()
    baseline[1][key] = "other"
    assert not same_plan(generated, baseline).passed


def test_arm_with_fewer_images_fails():
    generated, baseline = arms()
    assert not same_plan(generated, baseline[:1]).passed
    assert not same_plan([], []).passed


@pytest.mark.parametrize(
    ("generated_adapters", "baseline_adapters"),
    [
        ({"lcm": 1.0}, {"lcm": 1.0}),
        ({"lcm": 1.0, "lora": 1.0}, {"lcm": 1.0, "lora": 1.0}),
        ({"lcm": 1.0, "lora": 1.0}, {}),
        ({"lcm": 1.0, "lora": 1.0}, {"lcm": 1.0, "other": 1.0}),
        ({"lcm": 1.0, "lora": 1.0}, {"lcm": 0.5}),
    ],
)
def test_arms_with_another_difference_in_adapters_fail(generated_adapters, baseline_adapters):
    generated, baseline = arms()
    for row in generated:
        row["adapters"] = generated_adapters
    for row in baseline:
        row["adapters"] = baseline_adapters
    assert not same_plan(generated, baseline).passed


def test_one_image_without_the_trained_lora_fails():
    generated, baseline = arms()
    generated[1]["adapters"] = {"lcm": 1.0}
    assert not same_plan(generated, baseline).passed


def test_adapter_must_change_every_image_by_more_than_rounding():
    baseline = IMAGES.copy()
    baseline[1:] += 3
    outcome = adapter_acts(IMAGES, baseline, 1.0)
    assert not outcome.passed
    assert outcome.figures == {"same": 1, "change": pytest.approx(9 / 4)}
    assert outcome.sentence == (
        "the trained LoRA changes 1 of 4 images by less than checks.min_adapter_change = 1 grey level"
    )
    baseline[0, 0, 0] -= 1
    assert adapter_acts(IMAGES, baseline, 1.0).figures["same"] == 1  # one level in one pixel is rounding
    baseline[0] += 1
    assert not adapter_acts(IMAGES, baseline, 1.0).passed
    baseline[0, 0, 0] += 1
    outcome = adapter_acts(IMAGES, baseline, 1.0)
    assert outcome.passed
    assert outcome.sentence == "the trained LoRA changes all 4 images by at least 1 grey level"
    assert not adapter_acts(IMAGES, baseline[:2], 1.0).passed


def kid(low: float, high: float) -> dict:
    return {"value": (low + high) / 2, "ci95": [low, high]}


def metrics(lora: tuple, baseline: tuple, lora_independent: tuple | None = None) -> dict:
    """Image metrics with these KID intervals, equal in both spaces unless given."""
    report: dict = {"feature_spaces": {"labeller": "", "independent": ""}}
    for name, interval in {"lora": lora, "baseline": baseline}.items():
        report[name] = {"overall": {"kid": kid(*interval), "independent": {"kid": kid(*interval)}}}
    if lora_independent:
        report["lora"]["overall"]["independent"]["kid"] = kid(*lora_independent)
    return report


@pytest.mark.parametrize(
    ("lora", "baseline", "lora_independent", "passed"),
    [
        ((0, 1), (2, 3), None, True),
        ((0, 2.1), (2, 3), None, False),
        ((4, 5), (2, 3), None, False),
        ((0, 1), (2, 3), (1, 2.5), False),
    ],
)
def test_lora_must_be_closer_in_both_spaces_beyond_the_intervals(lora, baseline, lora_independent, passed):
    outcome = closer_than_baseline(metrics(lora, baseline, lora_independent))
    assert outcome.passed is passed
    assert outcome.figures["kid_lora_independent"] == sum(lora_independent or lora) / 2
    assert outcome.figures["kid_baseline_labeller"] == sum(baseline) / 2


def test_missing_kid_fails():
    images = metrics((0, 1), (2, 3))
    images["lora"]["overall"]["kid"] = None
    assert not closer_than_baseline(images).passed
    assert not closer_than_baseline({}).passed
