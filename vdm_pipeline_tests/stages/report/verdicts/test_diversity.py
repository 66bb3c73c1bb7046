"""The verdict on diversity compares with as many real images."""

import pytest

from vdm_pipeline.stages.report.verdicts.diversity import diversity
from vdm_pipeline_tests.stages.report.example import metric
from vdm_pipeline_tests.stages.report.verdicts.arms import same_in_both_spaces


@pytest.mark.parametrize(
    ("vendi", "outcome"), [(metric(5), "bad"), (metric(10.05), "good"), (metric(15), "good")]
)
def test_vendi_score(vendi, outcome):
    verdict = diversity(same_in_both_spaces("diversity", real=metric(10), lora=vendi))
    assert verdict.outcome == outcome
    assert "10 [9.9, 10.1] for as many real images" in verdict.sentences[0]


@pytest.mark.parametrize(("similarity", "outcome"), [(metric(0.8), "bad"), (metric(0.05), "good")])
def test_similar_images_within_a_class_are_less_diverse(similarity, outcome):
    images = same_in_both_spaces("ms_ssim", real=metric(0.3), lora=similarity)
    assert diversity(images).outcome == outcome


def test_a_wide_interval_is_not_good():
    images = same_in_both_spaces("diversity", real=metric(10, 3), lora=metric(9, 4))
    assert diversity(images).outcome == "unclear"


@pytest.mark.parametrize(
    ("share", "n", "outcome"), [(0.05, 200, "good"), (0.1, 200, "bad"), (0.1, 20, "good")]
)
def test_near_duplicates_beyond_chance_are_bad(share, n, outcome):
    images = {
        "lora": {"overall": {"n": n}},
        "memorization": {"arms": {"lora": {"duplicates": {"labeller": share}}}},
    }
    verdict = diversity(images)
    assert verdict.outcome == outcome
    assert f"{share:.0%} of the LoRA images, 5% expected" in verdict.sentences[0]
