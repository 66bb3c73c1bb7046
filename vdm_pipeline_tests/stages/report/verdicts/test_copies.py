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
    return {"memorization": {"arms": arms}}


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
