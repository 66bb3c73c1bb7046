"""All verdicts: complete where metrics exist, "not measured" where they do not, the worst news first."""

import pytest

from vdm_pipeline.stages.report.verdicts.glance import all_verdicts
from vdm_pipeline.stages.report.verdicts.verdict import Statement, combine, combined_outcome
from vdm_pipeline_tests.stages.report.example import CLASS_NAMES, LABEL_METRICS, image_metrics


def test_every_metric_gets_a_verdict():
    verdicts = all_verdicts(LABEL_METRICS, image_metrics(), CLASS_NAMES, 0.05)
    assert "absent" not in {verdict.outcome for verdict in verdicts}
    assert not any("not measured" in sentence for verdict in verdicts for sentence in verdict.sentences)


@pytest.mark.parametrize(
    "images", [{}, {"lora": {"overall": {}}}, {"memorization": {"arms": {"lora": {}}}}, {"paired": None}]
)
def test_missing_metrics_are_not_judged(images):
    verdicts = all_verdicts({}, images, CLASS_NAMES, 0.05)
    assert {verdict.outcome for verdict in verdicts} == {"absent"}
    assert all("not measured" in sentence for verdict in verdicts for sentence in verdict.sentences)
    assert verdicts[0].topic == "Safe to share: not measured"


@pytest.mark.parametrize(
    ("outcomes", "combined"),
    [
        (["good", "absent"], "good"),
        (["good", "unclear"], "unclear"),
        (["bad", "unclear"], "bad"),
        (["good", "bad"], "mixed"),
        (["mixed", "good"], "mixed"),
        ([], "absent"),
    ],
)
def test_combined_outcome(outcomes, combined):
    assert combined_outcome(outcomes) == combined


def test_worst_news_come_first():
    parts = [("absent", "a"), ("good", "b"), ("bad", "c"), ("unclear", "d")]
    verdict = combine("", "", [Statement(*part) for part in parts])
    assert verdict.outcome == "mixed"
    assert verdict.sentences == ("c", "d", "b", "a")
