"""Plots of the image metrics: there for what was measured, with the values of the metrics file."""

import numpy as np
import pytest

from vdm_pipeline.stages.report.plots.images import COLOURS, image_figures, in_half_widths
from vdm_pipeline_tests.stages.report.example import GROUPS, NAMES, filled, without_values

ALL = [
    "kid_labeller",
    "kid_independent",
    "neighbours_labeller",
    "neighbours_independent",
    "paired",
    "copies_labeller",
    "copies_independent",
    "utility",
]


def drawn(figure) -> dict[str, np.ndarray]:
    """Values by name of the series."""
    return {container.get_label(): container.lines[0].get_xdata() for container in figure.axes[0].containers}


def test_all_that_is_measured_is_drawn():
    assert list(image_figures(filled(), NAMES)) == ALL


def test_dots_are_the_values_of_the_file():
    report = filled()
    figures = image_figures(report, NAMES)
    arms = [*(report[arm] for arm in ("real", "baseline", "lora")), *report["extra"].values()]
    for group in GROUPS:
        np.testing.assert_array_equal(
            drawn(figures["kid_labeller"])[group], [arm[group]["kid"]["value"] for arm in arms]
        )
        np.testing.assert_array_equal(
            drawn(figures["kid_independent"])[group],
            [arm[group]["independent"]["kid"]["value"] for arm in arms],
        )
    found = drawn(figures["copies_labeller"])["near a training image"]
    np.testing.assert_array_equal(
        found,
        [arm["labeller"]["share_near_train"]["value"] for arm in report["memorization"]["arms"].values()],
    )
    assert len(drawn(figures["neighbours_labeller"])) == 4
    (sets,) = drawn(figures["utility"]).values()
    assert set(sets) == {found["balanced_accuracy"]["value"] for found in report["utility"]["sets"].values()}


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"lora": {"overall": {"kid": None}}},
        {"extra": None, "memorization": None, "paired": {}},
        without_values(filled()),
    ],
)
def test_nothing_is_drawn_of_nothing(report):
    assert image_figures(report, NAMES) == {}


def test_metrics_that_lack_some_values_leave_gaps():
    report = filled()
    report["baseline"]["normal"]["kid"] = None
    found = drawn(image_figures(report, NAMES)["kid_labeller"])
    assert {name: len(values) for name, values in found.items()} == {
        "overall": 4,
        "normal": 3,
        "pneumonia": 4,
    }


def test_many_classes_and_arms_still_fit():
    report = filled()
    names = [f"c{i}" for i in range(9)]
    report["extra"] |= {f"weight_{i}": report["lora"] for i in range(len(COLOURS))}
    assert list(drawn(image_figures(report, names)["kid_labeller"])) == ["overall"]


def test_half_widths_hold_zero_where_the_interval_does():
    assert in_half_widths({"value": 3.0, "ci95": [2.0, 4.0]}) == {"value": 3, "ci95": [2, 4]}
    assert in_half_widths({"value": 0.0, "ci95": [0.0, 0.0]}) is None
    assert in_half_widths({"value": 1.0}) is in_half_widths(None) is None
