"""The verdict on utility compares with the repeated real images."""

import pytest

from vdm_pipeline.stages.report.verdicts.utility import utility
from vdm_pipeline_tests.stages.report.example import metric


@pytest.mark.parametrize(
    ("gain", "outcome", "effect"),
    [(0.2, "good", "helps:"), (-0.2, "bad", "harms:"), (0.05, "unclear", "has no clear effect:")],
)
def test_gain_over_repeated_real_images_decides(gain, outcome, effect):
    sets = {name: {"balanced_accuracy": metric(value)} for name, value in (("real", 0.8), ("synthetic", 0.7))}
    gains = {"real_twice": metric(gain), "real": metric(0.5)}
    verdict = utility({"utility": {"sets": sets, "gains": gains}})
    assert verdict.outcome == outcome
    assert effect in verdict.sentences[0]
    assert "each real image twice" in verdict.sentences[0]
    assert "reaches 0.7 [0.6, 0.8]; " in verdict.sentences[1]
    assert "reaches 0.8 [0.7, 0.9]." in verdict.sentences[1]


@pytest.mark.parametrize(("over_real", "outcome"), [(0.0, "unclear"), (0.5, "good")])
def test_gain_over_real_images_is_needed_too(over_real, outcome):
    gains = {"real_twice": metric(0.5), "real": metric(over_real)}
    assert utility({"utility": {"sets": {}, "gains": gains}}).outcome == outcome
