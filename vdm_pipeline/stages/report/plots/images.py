"""Plots of the image metrics: dots with their 95% intervals."""

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import TYPE_CHECKING, Any

from vdm_pipeline.stages.evaluation.spaces import SPACES
from vdm_pipeline.stages.report.metric_values import Metric, lookup, set_metric
from vdm_pipeline.stages.report.plots.dots import dot_plot
from vdm_pipeline.stages.report.plots.figure import GREY, plot_style
from vdm_pipeline.stages.report.titles import (
    ARM_TITLES,
    OVERALL,
    SPACE_TITLES,
    TRAINING_SET_TITLES,
    group_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEIGHBOUR_METRICS = ("precision", "recall", "density", "coverage")
PAIRED_METRICS = {
    "label_agreement": "judge agrees",
    "label_confidence": "judge's confidence",
    "sharpness": "sharpness",
    "chroma": "colour",
    **{f"nearest_real_{space}": f"nearest real, {space}" for space in SPACES},
}
MAX_CLASSES = 4
"""With more classes, a plot shows only all of them together."""
EXPECTED_SHARE = 0.05
"""Share of new images that count as near, by definition."""


@plot_style()
def image_figures(report: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, "Figure"]:
    """Figures by name, in reading order, without those for which nothing was measured."""
    figures = {
        **{f"kid_{space}": _kid(report, space, class_names) for space in SPACES},
        **{f"neighbours_{space}": _neighbours(report, space) for space in SPACES},
        "paired": _paired(report, class_names),
        **{f"copies_{space}": _copies(report, space) for space in SPACES},
        "utility": _utility(report, class_names),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def in_half_widths(metric: Metric | None) -> dict[str, Any] | None:
    """The metric divided by half the width of its interval, so that all metrics share one axis.

    None if there is no interval, or if it has no width.
    """
    if not metric or not metric.get("ci95"):
        return None
    low, high = metric["ci95"]
    half = (high - low) / 2
    return {"value": metric["value"] / half, "ci95": [low / half, high / half]} if half > 0 else None


def _kid(report: Mapping[str, Any], space: str, class_names: Sequence[str]) -> "Figure | None":
    """The x axis is linear around 0, where real images lie, and logarithmic beyond."""
    arms = _arms(report)
    series = {
        group_title(group): [set_metric(arm, group, space, "kid") for arm in arms.values()]
        for group in _groups(class_names)
    }
    figure = dot_plot(f"KID, {SPACE_TITLES[space]}", "KID (lower is closer to real)", list(arms), series)
    if figure:
        ends = [
            abs(end) for metrics in series.values() for metric in metrics if metric for end in metric["ci95"]
        ]
        _symlog_x(figure, _linear_threshold(max(ends)))
    return figure


def _neighbours(report: Mapping[str, Any], space: str) -> "Figure | None":
    series = {
        name: [set_metric(arm, OVERALL, space, metric) for metric in NEIGHBOUR_METRICS]
        for name, arm in _arms(report).items()
    }
    title = f"Realism and variety, {SPACE_TITLES[space]}"
    return dot_plot(title, "value (higher is closer to real)", list(NEIGHBOUR_METRICS), series)


def _paired(report: Mapping[str, Any], class_names: Sequence[str]) -> "Figure | None":
    """Differences in half-widths of their intervals; an interval contains 0 if its dot lies in [-1, 1]."""
    series = {
        group_title(group): [in_half_widths(lookup(report, "paired", key, group)) for key in PAIRED_METRICS]
        for group in _groups(class_names)
    }
    title = "LoRA minus baseline, in pairs"
    label = "difference / half-width of its 95% interval"
    figure = dot_plot(title, label, list(PAIRED_METRICS.values()), series)
    if figure:
        _symlog_x(figure, 2)
    return figure


def _copies(report: Mapping[str, Any], space: str) -> "Figure | None":
    arms = lookup(report, "memorization", "arms") or {}
    series = {
        f"near a {title} image": [lookup(arm, space, f"share_near_{key}") for arm in arms.values()]
        for title, key in (("training", "train"), ("held-out", "held_out"))
    }
    rows = [ARM_TITLES.get(name, name) for name in arms]
    title = f"Images near real ones, {SPACE_TITLES[space]}"
    figure = dot_plot(title, "share of images (dashed: expected)", rows, series)
    if figure:
        figure.axes[0].axvline(EXPECTED_SHARE, color=GREY, lw=0.8, ls="--")
        figure.axes[0].set_xlim(left=-0.005)
    return figure


def _utility(report: Mapping[str, Any], class_names: Sequence[str]) -> "Figure | None":
    series = {
        "": [lookup(report, "utility", "sets", name, "balanced_accuracy") for name in TRAINING_SET_TITLES]
    }
    title = "Classifier on real test images, by training set"
    rows = list(TRAINING_SET_TITLES.values())
    figure = dot_plot(title, "balanced accuracy (dashed: chance)", rows, series)
    if figure:
        figure.axes[0].axvline(1 / len(class_names), color=GREY, lw=0.8, ls="--")
    return figure


def _arms(report: Mapping[str, Any]) -> dict[str, Any]:
    """The sets that were compared with real images, by title; extra arms last."""
    return {title: report.get(arm) for arm, title in ARM_TITLES.items()} | dict(report.get("extra") or {})


def _groups(class_names: Sequence[str]) -> list[str]:
    return [OVERALL, *class_names] if len(class_names) <= MAX_CLASSES else [OVERALL]


def _symlog_x(figure: "Figure", linear_threshold: float) -> None:
    """Make the x axis linear up to the threshold and logarithmic beyond, with a line at 0."""
    axes = figure.axes[0]
    axes.set_xscale("symlog", linthresh=linear_threshold)
    axes.autoscale(axis="x")
    axes.axvline(0, color=GREY, lw=0.8)


def _linear_threshold(largest: float) -> float:
    """The power of ten between a tenth and a hundredth of the largest value."""
    return 10.0 ** (floor(log10(max(largest, 1e-9))) - 1)
