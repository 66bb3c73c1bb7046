"""The verdict on automatic labels."""

import pytest

from vdm_pipeline.stages.report.verdicts.labels import label_quality
from vdm_pipeline_tests.stages.report.example import LABEL_METRICS

TEST = LABEL_METRICS["test"]


def test_good_labels():
    verdict = label_quality(LABEL_METRICS, 2)
    assert verdict.outcome == "good"
    assert "accuracy 0.900 against 0.625, balanced accuracy 0.88 [0.85, 0.91]" in verdict.sentences[0]


def test_constant_guess_is_bad_even_if_it_ranks_images():
    scores = {
        "accuracy": 0.625,
        "balanced_accuracy": 0.5,
        "balanced_accuracy_ci95": [0.5, 0.5],
        "roc_auc_ci95": [0.7, 0.8],
    }
    verdict = label_quality({"test": TEST | scores}, 2)
    assert verdict.outcome == "bad"
    assert "labels do not beat a constant guess" in verdict.sentences[0]
    assert "rank images better than chance" in verdict.sentences[0]


def test_labels_below_the_most_frequent_class_are_bad():
    assert label_quality({"test": TEST | {"accuracy": 0.6}}, 2).outcome == "bad"


@pytest.mark.parametrize(("n_classes", "outcome"), [(3, "good"), (2, "bad")])
def test_chance_depends_on_the_number_of_classes(n_classes, outcome):
    labels = {"test": TEST | {"balanced_accuracy_ci95": [0.4, 0.45]}}
    assert label_quality(labels, n_classes).outcome == outcome


@pytest.mark.parametrize(
    "scores",
    [
        {"balanced_accuracy": 0.52, "balanced_accuracy_ci95": [0.48, 0.56]},
        {"accuracy": 0.6, "accuracy_ci95": [0.55, 0.65]},
    ],
)
def test_an_interval_that_includes_a_constant_guess_is_unclear(scores):
    verdict = label_quality({"test": TEST | scores}, 2)
    assert verdict.outcome == "unclear"
    assert "labels do not clearly beat a constant guess" in verdict.sentences[0]
