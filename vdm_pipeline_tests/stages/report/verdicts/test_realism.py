"""Verdicts on realism claim no more than the intervals support."""

import pytest

from vdm_pipeline.stages.report.verdicts.realism import class_agreement, distance, paired, sharpness
from vdm_pipeline_tests.stages.report.example import metric
from vdm_pipeline_tests.stages.report.verdicts.arms import same_in_both_spaces


def kid(lora: dict) -> dict:
    return same_in_both_spaces("kid", real=metric(0.01, 0.02), baseline=metric(2, 0.2), lora=lora)


@pytest.mark.parametrize(
    ("lora", "outcome", "change", "against_real"),
    [
        (metric(0.5), "good", ": closer to real images", "clearly worse"),
        (metric(0.02), "good", ": closer to real images", "not clearly worse"),
        (metric(1.9), "unclear", ": not clearly closer or farther", "clearly worse"),
        (metric(5), "bad", ": farther from real images", "clearly worse"),
    ],
)
def test_distance_follows_the_intervals(lora, outcome, change, against_real):
    verdict = distance(kid(lora))
    assert verdict.outcome == outcome
    assert len(verdict.sentences) == 2
    for sentence in verdict.sentences:
        assert "KID from 2 [1.8, 2.2] to" in sentence
        assert "real images score 0.01 [-0.01, 0.03]" in sentence
        assert change in sentence
        assert ("not clearly worse" in sentence) == (against_real == "not clearly worse")


def test_distance_is_good_only_in_both_spaces():
    images = kid(metric(0.5))
    images["lora"]["overall"]["independent"] = {"kid": metric(5)}
    verdict = distance(images)
    assert verdict.outcome == "mixed"
    assert "farther" in verdict.sentences[0] and "closer" in verdict.sentences[1]


@pytest.mark.parametrize(
    ("value", "p", "outcome"),
    [
        (metric(0.5), 0.001, "good"),
        (metric(-0.5), 0.001, "bad"),
        (metric(0.05), 0.4, "unclear"),
        (metric(0.5), 0.2, "unclear"),
        (metric(0.05), 0.001, "unclear"),
    ],
)
def test_paired_difference_needs_interval_and_p(value, p, outcome):
    verdict = paired({"paired": {"label_confidence": {"overall": {"n": 128, "p": p, **value}}}})
    assert verdict.outcome == outcome
    assert f"p = {p:.2g}" in verdict.sentences[0] and "128 pairs" in verdict.sentences[0]


@pytest.mark.parametrize(
    ("lora", "outcome", "text"),
    [
        (metric(0.9, 0.05), "good", "90% [85%, 95%] of the LoRA images, 40%"),
        (metric(0.45, 0.1), "unclear", "not clear"),
        (metric(0.38, 0.05), "bad", "Most images do not show"),
        (metric(0.2, 0.05), "bad", "worse than without"),
    ],
)
def test_agreement_by_class(lora, outcome, text):
    images = same_in_both_spaces(
        "label_agreement", "normal", real=metric(0.95), baseline=metric(0.4), lora=lora
    )
    verdict = class_agreement(images, ["normal"])
    assert verdict.outcome == outcome
    assert text in verdict.sentences[0]


@pytest.mark.parametrize(
    ("lora", "outcome", "text"),
    [(5, "bad", "blurrier"), (15, "bad", "noisier"), (10, "good", "do not clearly differ")],
)
def test_sharpness_is_bad_in_both_directions(lora, outcome, text):
    images = same_in_both_spaces(
        "sharpness", "normal", real=metric(10), baseline=metric(3), lora=metric(lora)
    )
    verdict = sharpness(images, ["normal"])
    assert verdict.outcome == outcome
    assert text in verdict.sentences[0]
    assert "baseline 3 [2.9, 3.1]" in verdict.sentences[0]


def test_blur_of_one_class_is_not_hidden_by_another():
    normal = same_in_both_spaces("sharpness", "normal", real=metric(60), lora=metric(50))
    sick = same_in_both_spaces("sharpness", "sick", real=metric(20), lora=metric(20))
    verdict = sharpness({arm: normal[arm] | sick[arm] for arm in normal}, ["normal", "sick"])
    assert verdict.outcome == "mixed"
    assert verdict.sentences[0].startswith("Normal LoRA images are blurrier")


def test_a_wide_interval_is_not_good():
    images = same_in_both_spaces("sharpness", "normal", real=metric(10, 3), lora=metric(9, 4))
    assert sharpness(images, ["normal"]).outcome == "unclear"
