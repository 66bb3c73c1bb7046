"""The layout of image_metrics.json: its keys are a contract."""

import json

import pytest

from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.results import (
    ArmMetrics,
    CopyFigures,
    GroupMetrics,
    ImageMeans,
    SpaceMemorisation,
    SpaceMetrics,
)
from vdm_pipeline.stages.evaluation.to_json import (
    arm_metrics_json,
    image_metrics_json,
    space_memorisation_json,
)
from vdm_pipeline_tests.stages.evaluation.example import NAMES, evaluate_example

SPACE_KEYS = ["kid", "cmmd", "fid", "precision", "recall", "density", "coverage", "diversity"]
IMAGE_KEYS = ["sharpness", "chroma", "label_agreement", "label_confidence"]
GROUP_KEYS = ["n", "n_reference", *SPACE_KEYS, *IMAGE_KEYS, "ms_ssim", "independent"]
COPY_KEYS = [
    "p_copied",
    "share_near_train",
    "share_near_held_out",
    "copied",
    "ratio",
    "share_nearest_is_train",
    "p",
]
SINGLE_COPY_KEYS = ["arm", "file_name", "train_image", "held_out_image", "orientation", "ratio"]
EMPTY = GroupMetrics(0, 3, {"labeller": None, "independent": None}, None, None)


def estimates(kind: type, first: float):
    """A dataclass of estimates with the values ``first``, ``first + 1``, ..."""
    count = len(kind.__dataclass_fields__)
    return kind(*(Estimate(first + i, (first + i - 1, first + i + 1)) for i in range(count)))


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    return image_metrics_json(evaluate_example(tmp_path_factory.mktemp("arms")))


def test_sections_and_groups(report):
    assert list(report) == [
        "feature_spaces",
        "judge",
        "reference",
        "fid_trusted_from",
        "real",
        "real_to_test",
        "baseline",
        "lora",
        "extra",
        "paired",
        "memorization",
        "utility",
    ]
    arms = [
        report["real"],
        report["real_to_test"],
        report["baseline"],
        report["lora"],
        report["extra"]["third"],
    ]
    assert all(list(arm) == ["overall", *NAMES] for arm in arms)
    assert all(list(group) == GROUP_KEYS for arm in arms for group in arm.values())
    assert report["reference"] == {"split": "val", "n": 47, "left_out": 1, "absent": []}


def test_paired_memorisation_and_utility(report):
    assert list(report["paired"]["chroma"]["overall"]) == ["n", "value", "ci95", "p"]
    memorisation = report["memorization"]
    assert list(memorisation["arms"]) == ["real", "baseline", "lora", "third"]
    lora = memorisation["arms"]["lora"]
    assert list(lora) == ["duplicates", "labeller", "independent"]
    assert list(lora["duplicates"]) == ["exact", "of_training", "labeller", "independent"]
    assert list(lora["labeller"]) == ["n", "n_train", "n_held_out", *COPY_KEYS]
    pair = ["arm", "file_name", "train_image", "held_out_image", "nearness"]
    assert all(list(closest) == pair for space in memorisation["closest"].values() for closest in space)
    single = memorisation["single_copies"]
    assert list(single) == ["false_alarm_rate", "n", "n_held_out", "limit", "sensitivity", "found"]
    assert all(list(copy) == SINGLE_COPY_KEYS for copy in single["found"]) and single["found"]
    utility = report["utility"]
    assert list(utility) == ["classifier", "seeds", "epochs", "n_test", "sets", "gains"]
    assert list(utility["sets"]["real"]) == ["n", "balanced_accuracy", "recall"]
    assert list(utility["gains"]) == ["real", "real_twice"]


def test_report_is_plain_json(report):
    assert json.loads(json.dumps(report)) == report


def test_the_labeller_space_is_in_the_group_and_the_other_one_under_its_name():
    spaces = {"labeller": estimates(SpaceMetrics, 0), "independent": estimates(SpaceMetrics, 10)}
    group = GroupMetrics(4, 5, spaces, estimates(ImageMeans, 20), Estimate(0.5, (0, 1)))
    result = arm_metrics_json(ArmMetrics(group, {"a": EMPTY}))["overall"]
    assert result["kid"] == {"value": 0, "ci95": [-1, 1]}
    assert result["independent"]["kid"] == {"value": 10, "ci95": [9, 11]}
    assert result["label_confidence"]["value"] == 23
    assert result["ms_ssim"] == {"value": 0.5, "ci95": [0, 1]}


def test_missing_figures_are_null():
    result = arm_metrics_json(ArmMetrics(EMPTY, {"a": EMPTY}))["a"]
    assert (result["n"], result["n_reference"]) == (0, 3)
    assert all(result[key] is None for key in [*SPACE_KEYS, *IMAGE_KEYS, "ms_ssim"])
    assert result["independent"] == dict.fromkeys(SPACE_KEYS)
    sizes = {"n": 3, "n_train": 2, "n_held_out": 0}
    assert space_memorisation_json(SpaceMemorisation(3, 2, 0, None)) == sizes | dict.fromkeys(COPY_KEYS)


def test_space_memorisation_has_its_figures_beside_the_sizes():
    share = Estimate(0.25, (0.1, 0.4))
    figures = CopyFigures(0.7, share, share, share, share, share, 0.9)
    result = space_memorisation_json(SpaceMemorisation(3, 2, 1, figures))
    assert (result["n"], result["p_copied"], result["p"]) == (3, 0.7, 0.9)
    assert result["copied"] == {"value": 0.25, "ci95": [0.1, 0.4]}
