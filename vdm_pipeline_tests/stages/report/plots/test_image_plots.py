"""Plots of the image metrics: one for everything that was measured, with the values of the metrics file."""

import numpy as np
import pytest

from vdm_pipeline.stages.report.plots.dots import COLOURS
from vdm_pipeline.stages.report.plots.images import image_figures, in_half_widths
from vdm_pipeline.stages.report.titles import group_title
from vdm_pipeline_tests.stages.report.example import CLASS_NAMES, GROUPS, image_metrics, without_values

PLOTS = [
    "kid_labeller",
    "kid_independent",
    "neighbours_labeller",
    "neighbours_independent",
    "paired",
    "copies_labeller",
    "copies_independent",
    "utility",
]


def plotted(figure) -> dict[str, np.ndarray]:
    """Values by series."""
    return {container.get_label(): container.lines[0].get_xdata() for container in figure.axes[0].containers}


def test_everything_measured_is_plotted():
    assert list(image_figures(image_metrics(), CLASS_NAMES)) == PLOTS


def test_dots_are_the_values_of_the_file():
    report = image_metrics()
    plots = {name: plotted(figure) for name, figure in image_figures(report, CLASS_NAMES).items()}
    arms = [report["real"], report["baseline"], report["lora"], *report["extra"].values()]
    for group in GROUPS:
        title = group_title(group)
        labeller = [arm[group]["kid"]["value"] for arm in arms]
        independent = [arm[group]["independent"]["kid"]["value"] for arm in arms]
        np.testing.assert_array_equal(plots["kid_labeller"][title], labeller)
        np.testing.assert_array_equal(plots["kid_independent"][title], independent)
    copies = report["memorization"]["arms"].values()
    near = [arm["labeller"]["share_near_train"]["value"] for arm in copies]
    np.testing.assert_array_equal(plots["copies_labeller"]["near a training image"], near)
    assert len(plots["neighbours_labeller"]) == 4
    (scores,) = plots["utility"].values()
    sets = report["utility"]["sets"].values()
    assert set(scores) == {scores["balanced_accuracy"]["value"] for scores in sets}


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"lora": {"overall": {"kid": None}}},
        {"extra": None, "memorization": None, "paired": {}},
        without_values(image_metrics()),
    ],
)
def test_nothing_is_plotted_without_values(report):
    assert image_figures(report, CLASS_NAMES) == {}


def test_missing_values_leave_gaps():
    report = image_metrics()
    report["baseline"]["normal"]["kid"] = None
    kid = plotted(image_figures(report, CLASS_NAMES)["kid_labeller"])
    lengths = {name: len(values) for name, values in kid.items()}
    assert lengths == {"All classes": 4, "normal": 3, "pneumonia": 4}


def test_many_classes_and_arms():
    report = image_metrics()
    names = [f"c{i}" for i in range(9)]
    report["extra"] |= {f"weight_{i}": report["lora"] for i in range(len(COLOURS))}
    assert list(plotted(image_figures(report, names)["kid_labeller"])) == ["All classes"]


def test_half_widths():
    assert in_half_widths({"value": 3.0, "ci95": [2.0, 4.0]}) == {"value": 3, "ci95": [2, 4]}
    assert in_half_widths({"value": 0.0, "ci95": [0.0, 0.0]}) is None
    assert in_half_widths({"value": 1.0}) is in_half_widths(None) is None
