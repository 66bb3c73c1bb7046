"""The page: self-contained, escaped, honest."""

import pytest

from vdm_pipeline.stages.report.verdict import interval, verdict


def metrics(kid: dict[str, tuple[float, float, float]], agreement: dict[str, float]) -> dict:
    report = {}
    for arm in ("real", "baseline", "lora"):
        value, low, high = kid[arm]
        group = {"kid": {"value": value, "ci95": [low, high]}, "label_agreement": {"value": agreement[arm], "ci95": [0, 1]}}
        report[arm] = {name: group for name in ("overall", "normal", "pneumonia")}
    return report


LABELS = {
    "test": {"accuracy": 0.9, "majority_baseline_accuracy": 0.625, "balanced_accuracy": 0.88, "roc_auc": 0.95, "roc_auc_ci95": [0.9, 0.97]}
}
CLOSER = {"real": (0, -0.1, 0.1), "baseline": (2, 1.8, 2.2), "lora": (0.5, 0.3, 0.7)}
NAMES = ("normal", "pneumonia")


def said(labels: dict, images: dict) -> list[tuple[bool, str]]:
    return verdict(labels, images, NAMES)


def test_good_news_is_told_with_its_figures():
    news = said(LABELS, metrics(CLOSER, {"real": 0.95, "baseline": 0.1, "lora": 0.9}))
    assert [good for good, _ in news] == [True, True, True, True]
    assert "0.500" not in news[0][1]
    assert "accuracy 0.900 against 0.625" in news[0][1]
    assert "closer to real images" in news[1][1]
    assert "0.5 [0.3, 0.7] against 2 [1.8, 2.2]" in news[1][1]


def test_constant_labels_are_no_good_news():
    constant = {"test": LABELS["test"] | {"accuracy": 0.625, "balanced_accuracy": 0.5, "roc_auc": 0.5, "roc_auc_ci95": [0.45, 0.55]}}
    good, sentence = said(constant, metrics(CLOSER, {"real": 1, "baseline": 1, "lora": 1}))[0]
    assert not good
    assert "do not clearly beat a constant answer" in sentence


@pytest.mark.parametrize(
    ("lora", "words"), [((2.0, 1.7, 2.3), "not clearly nearer to or farther from"), ((5.0, 4.5, 5.5), "farther from real images than")]
)
def test_distance_that_did_not_fall_is_said_plainly(lora, words):
    good, sentence = said(LABELS, metrics(CLOSER | {"lora": lora}, {"real": 1, "baseline": 1, "lora": 1}))[1]
    assert not good
    assert words in sentence


def test_judge_that_disagrees_is_said_plainly():
    news = said(LABELS, metrics(CLOSER, {"real": 0.95, "baseline": 0.4, "lora": 0.2}))
    assert [good for good, _ in news[2:]] == [False, False]


def test_absent_value_is_not_invented():
    assert interval(None) == interval({"value": None, "ci95": None}) == "not measured"
