"""Verdicts on copies of training images and on novelty."""

import pytest

from vdm_pipeline.stages.report.verdicts.copies import copies_found, novelty
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
        (metric(0.2), 0.001, "found", "bad"),
        (metric(0.2), 0.4, "cannot tell", "unclear"),
        (metric(0.0), 0.4, "none found", "good"),
        (metric(0.01), 0.001, "none found", "unclear"),
    ],
)
def test_copies_and_novelty(copied, p, answer, outcome):
    images = copy_metrics(copied, p)
    verdict = novelty(images, 0.05)
    assert verdict.outcome == outcome
    assert "30% [20%, 40%] of the LoRA images lie near a training image" in verdict.sentences[0]
    found = copies_found(images, 0.05)
    assert (found.topic.title, found.tag) == ("Copies of training images", answer)
    assert "checks.max_copied" in found.sentences[0]
    assert "shifted, rotated, cropped or very noisy is often missed" in found.sentences[1]
    assert "not a proof of privacy" in found.sentences[1]


def test_copies_are_not_judged_by_too_few_held_out_images():
    images = copy_metrics(metric(0.0), 0.4)
    images["memorization"]["arms"]["lora"]["labeller"]["n_held_out"] = 5
    verdict = copies_found(images, 0.05)
    assert (verdict.tag, verdict.outcome) == ("cannot tell", "unclear")
    assert "5 held-out images" in verdict.sentences[0]
    assert verdict.sentences[0].endswith("at least 100 are needed; add val images.")


def test_copies_in_one_space_are_enough():
    images = copy_metrics(metric(0), 0.4)
    images["memorization"]["arms"]["lora"]["labeller"] |= {
        "copied": metric(0.5),
        "p": 0.001,
        "p_copied": 0.001,
    }
    assert novelty(images, 0.05).outcome == "bad"
    assert copies_found(images, 0.05).outcome == "bad"


@pytest.mark.parametrize(("arm", "outcome"), [("lora", "bad"), ("baseline", "good")])
def test_one_single_copy_is_enough(arm, outcome):
    images = copy_metrics(metric(0, 0), 0.4)
    images["memorization"]["single_copies"] = single_copies(single_copy(arm))
    assert novelty(images, 0.05).outcome == outcome
    found = copies_found(images, 0.05)
    assert (found.tag, found.outcome) == ("found", "bad")
    assert f"gen_007.png ({arm})" in found.sentences[0].lower()
    assert "training image phantom_train_000123 (distance ratio 0.04)" in found.sentences[0]


def test_an_insensitive_test_for_single_copies_is_not_clear():
    images = copy_metrics(metric(0, 0), 0.4)
    images["memorization"]["single_copies"] = single_copies(sensitivity=0.4)
    assert novelty(images, 0.05).outcome == "unclear"
    found = copies_found(images, 0.05)
    assert found.tag == "cannot tell"
    for verdict in (novelty(images, 0.05), found):
        assert verdict.sentences[0].startswith(
            "Not enough images to test for single copies: with 100 held-out"
        )
        assert verdict.sentences[0].endswith("95% are needed; add val images.")


def test_more_images_are_not_recommended_where_they_do_not_help():
    images = copy_metrics(metric(0.2), 0.4)
    assert "generation.per_class" in copies_found(images, 0.05).sentences[0]
    assert novelty(images, 0.05).hint.startswith("More generated images do not decide it")
