"""A dot plot: one row per name, one dot with its interval per series."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vdm_pipeline.stages.report.metric_values import Metric, has_value, lower, upper
from vdm_pipeline.stages.report.plots.figure import BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, "#3b8b5a", "#8a5fa8", "#b04a5a", GREY, "#6b5b3e")
ROW_SHARE = 0.7
"""Share of a row's height over which its dots are spread."""


def dot_plot(
    title: str, x: str, rows: Sequence[str], series: Mapping[str, Sequence[Metric | None]]
) -> "Figure | None":
    """Each series has one metric per row; rows start at the top. None if no metric has a value."""
    shown = {name: metrics for name, metrics in series.items() if any(map(has_value, metrics))}
    if not shown:
        return None
    figure, axes = new_figure(title, x, "")
    step = ROW_SHARE / len(shown)
    for index, (name, metrics) in enumerate(shown.items()):
        offset = (index - (len(shown) - 1) / 2) * step
        _draw_series(axes, name, metrics, offset, COLOURS[index % len(COLOURS)])
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    if len(shown) > 1:
        _draw_legend(figure, axes, len(shown))
    return figure


def _draw_series(axes: Any, name: str, metrics: Sequence[Metric | None], offset: float, colour: str) -> None:
    measured = [
        (row, metric) for row, metric in enumerate(metrics) if metric is not None and has_value(metric)
    ]
    values = [metric["value"] for _, metric in measured]
    below = [max(metric["value"] - lower(metric), 0) for _, metric in measured]
    above = [max(upper(metric) - metric["value"], 0) for _, metric in measured]
    positions = [row + offset for row, _ in measured]
    style = {"fmt": "o", "ms": 3.5, "lw": 1.2, "color": colour}
    axes.errorbar(values, positions, xerr=[below, above], label=name, **style)


def _draw_legend(figure: "Figure", axes: Any, n_series: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = min(3, n_series)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
