"""Verdicts on copies of training images and on sharing."""

import pytest

from vdm_pipeline.stages.report.verdicts.copies import copies, safe_to_share
from vdm_pipeline_tests.stages.report.example import metric


def copy_metrics(copied: dict, p: float) -> dict:
    space = {
        "copied": copied,
        "p": p,
        "p_copied": p,
        "n_held_out": 100,
        "ratio": metric(0.99),
        "share_near_train": metric(0.3),
        "share_near_held_out": metric(0.1),
    }
    arms = {arm: {"labeller": dict(space), "independent": dict(space)} for arm in ("real", "lora")}
    for arm in arms.values():
        arm["duplicates"] = {"of_training": 0}
    return {"memorization": {"arms": arms, "single_copies": single_copies()}}


def single_copies(*found: dict, sensitivity: float = 1.0) -> dict:
    return {
        "false_alarm_rate": 0.001,
        "n": 640,
        "n_held_out": 100,
        "limit": 0.25,
        "sensitivity": sensitivity,
        "found": list(found),
    }


def single_copy(arm: str) -> dict:
    return {
        "arm": arm,
        "file_name": "gen_007.png",
        "train_image": "phantom_train_000123",
        "held_out_image": "phantom_val_000001",
        "orientation": "",
        "ratio": 0.04,
    }


@pytest.mark.parametrize(
    ("copied", "p", "answer", "outcome"),
    [
        (metric(0.2), 0.001, "no", "bad"),
        (metric(0.2), 0.4, "not clear", "unclear"),
        (metric(0.0), 0.4, "yes", "good"),
        (metric(0.01), 0.001, "yes", "unclear"),
    ],
)
def test_copies_and_sharing(copied, p, answer, outcome):
    images = copy_metrics(copied, p)
    verdict = copies(images, 0.05)
    assert verdict.outcome == outcome
    assert "30% [20%, 40%] of the LoRA images lie near a training image" in verdict.sentences[0]
    sharing = safe_to_share(images, 0.05)
    assert sharing.topic == f"Safe to share: {answer}"
    assert "checks.max_copied" in sharing.sentences[0]
    assert "does not cover privacy in general" in sharing.sentences[1]


def test_sharing_is_not_judged_by_too_few_held_out_images():
    images = copy_metrics(metric(0.0), 0.4)
    images["memorization"]["arms"]["lora"]["labeller"]["n_held_out"] = 5
    verdict = safe_to_share(images, 0.05)
    assert (verdict.topic, verdict.outcome) == ("Safe to share: not clear", "unclear")
    assert "5 held-out images" in verdict.sentences[0]


def test_copies_in_one_space_are_enough():
    images = copy_metrics(metric(0), 0.4)
    images["memorization"]["arms"]["lora"]["labeller"] |= {
        "copied": metric(0.5),
        "p": 0.001,
        "p_copied": 0.001,
    }
    assert copies(images, 0.05).outcome == "bad"
    assert safe_to_share(images, 0.05).outcome == "bad"


@pytest.mark.parametrize(("arm", "outcome"), [("lora", "bad"), ("baseline", "good")])
def test_one_single_copy_is_enough(arm, outcome):
    images = copy_metrics(metric(0, 0), 0.4)
    images["memorization"]["single_copies"] = single_copies(single_copy(arm))
    assert copies(images, 0.05).outcome == outcome
    sharing = safe_to_share(images, 0.05)
    assert (sharing.topic, sharing.outcome) == ("Safe to share: no", "bad")
    assert f"gen_007.png ({arm})" in sharing.sentences[0].lower()
    assert "training image phantom_train_000123 (distance ratio 0.04)" in sharing.sentences[0]


def test_an_insensitive_test_for_single_copies_is_not_clear():
    images = copy_metrics(metric(0, 0), 0.4)
    images["memorization"]["single_copies"] = single_copies(sensitivity=0.4)
    assert copies(images, 0.05).outcome == "unclear"
    sharing = safe_to_share(images, 0.05)
    assert sharing.topic == "Safe to share: not clear"
    assert "Not enough images to test for single copies" in sharing.sentences[0]
