"""All verdicts: complete where metrics exist, "not measured" where they do not, the worst news first."""

import pytest

from vdm_pipeline.stages.report.verdicts.glance import all_verdicts
from vdm_pipeline.stages.report.verdicts.verdict import Statement, Topic, Verdict, combine, combined_outcome
from vdm_pipeline_tests.stages.report.example import CLASS_NAMES, LABEL_METRICS, image_metrics

TOPIC = Topic("title", "images", if_unclear="more images", if_poor="more training")


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
    assert verdicts[0].topic.title == "Copies of training images"
    assert {(verdict.tag, verdict.hint) for verdict in verdicts} == {("not measured", "")}


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
    verdict = combine(TOPIC, [Statement(*part) for part in parts])
    assert verdict.outcome == "mixed"
    assert verdict.sentences == ("c", "d", "b", "a")


@pytest.mark.parametrize(
    ("outcome", "tag", "hint"),
    [
        ("good", "good", ""),
        ("unclear", "unclear", "more images"),
        ("mixed", "mixed", "more training"),
        ("bad", "poor", "more training"),
        ("absent", "not measured", ""),
    ],
)
def test_tag_and_hint_follow_the_outcome(outcome, tag, hint):
    verdict = Verdict(TOPIC, outcome, ("a figure",))
    assert (verdict.tag, verdict.hint) == (tag, hint)
    assert Verdict(TOPIC, outcome, ("a figure",), "found").tag == "found"
