"""Pictures of the image metrics: dots with their 95 % intervals, all drawn in one way."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vdm_pipeline.stages.report.plots.figure import BLUE, GREY, ORANGE, axes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACES = {"labeller": "labeller's space", "independent": "independent space"}
ARMS = {"real": "real (floor)", "baseline": "baseline", "lora": "with LoRA"}
SHARES = ("precision", "recall", "density", "coverage")
PAIRED = {
    "label_agreement": "label agreement",
    "label_confidence": "judge's confidence",
    "sharpness": "sharpness",
    "chroma": "colour spread",
    "nearest_real_labeller": "nearest real, labeller",
    "nearest_real_independent": "nearest real, indep.",
}
SETS = {
    "real": "real",
    "real_twice": "real twice",
    "real_and_synthetic": "real + LoRA",
    "synthetic": "LoRA alone",
    "synthetic_baseline": "baseline alone",
}
COLOURS = (BLUE, ORANGE, "#3b8b5a", "#8a5fa8", "#b04a5a", GREY, "#6b5b3e")
MOST_CLASSES = 4
"""More than that are not told apart in one picture; it then shows everything together alone."""
NEAR = 0.05
"""Share of new images that is expected to be near, by how near is defined."""

Metric = Mapping[str, Any] | None


def image_figures(report: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, "Figure"]:
    """Figures by name, in the order in which they are looked at; without those of which nothing was measured."""
    figures: dict[str, Figure | None] = {}
    for space, title in SPACES.items():
        figures[f"kid_{space}"] = _kid(report, space, title, class_names)
    for space, title in SPACES.items():
        figures[f"neighbours_{space}"] = _neighbours(report, space, title)
    figures["paired"] = _paired(report, class_names)
    for space, title in SPACES.items():
        figures[f"copies_{space}"] = _copies(report, space, title)
    figures["utility"] = _utility(report, class_names)
    return {name: figure for name, figure in figures.items() if figure is not None}


def in_half_widths(metric: Metric) -> dict[str, Any] | None:
    """The metric over half the width of its interval, so that metrics of any unit share one axis; None for no width."""
    if not metric or not metric.get("ci95"):
        return None
    low, high = metric["ci95"]
    half = (high - low) / 2
    return {"value": metric["value"] / half, "ci95": [low / half, high / half]} if half > 0 else None


def _kid(report: Mapping[str, Any], space: str, title: str, class_names: Sequence[str]) -> "Figure | None":
    """Arms down, groups side by side; linear around 0, where the floor lies, and logarithmic beyond."""
    arms = _arms(report)
    series = {
        group: [_set_metric(arm, group, space, "kid") for arm in arms.values()]
        for group in _groups(class_names)
    }
    figure = _dots(f"KID, {title}", "KID: lower is closer to real", list(arms), series)
    if figure:
        ends = [abs(end) for found in series.values() for metric in found if metric for end in metric["ci95"]]
        figure.axes[0].set_xscale("symlog", linthresh=_tenth_below(max(ends)))
        figure.axes[0].axvline(0, color=GREY, lw=0.8)
    return figure


def _neighbours(report: Mapping[str, Any], space: str, title: str) -> "Figure | None":
    arms = _arms(report)
    series = {
        name: [_set_metric(arm, "overall", space, metric) for metric in SHARES] for name, arm in arms.items()
    }
    return _dots(f"Among neighbours, {title}", "higher is closer to real", list(SHARES), series)


def _paired(report: Mapping[str, Any], class_names: Sequence[str]) -> "Figure | None":
    """Every metric in half-widths of its interval: the interval holds 0 where the dot lies within one of 0."""
    series = {
        group: [in_half_widths(_at(report, "paired", metric, group)) for metric in PAIRED]
        for group in _groups(class_names)
    }
    figure = _dots(
        "LoRA minus baseline, pair by pair",
        "difference, in half-widths of its 95 % interval",
        list(PAIRED.values()),
        series,
    )
    if figure:
        figure.axes[0].set_xscale("symlog", linthresh=2)
        figure.axes[0].axvline(0, color=GREY, lw=0.8)
    return figure


def _copies(report: Mapping[str, Any], space: str, title: str) -> "Figure | None":
    found = _at(report, "memorization", "arms") or {}
    titles = ARMS | {"real": "real (control)"}
    series = {
        f"near a {what} image": [_at(arm, space, f"share_near_{key}") for arm in found.values()]
        for what, key in (("training", "train"), ("held-out", "held_out"))
    }
    figure = _dots(f"Copies? {title}", "share of images", [titles.get(name, name) for name in found], series)
    if figure:
        figure.axes[0].axvline(NEAR, color=GREY, lw=0.8, ls="--")
        figure.axes[0].set_xlim(left=-0.005)
    return figure


def _utility(report: Mapping[str, Any], class_names: Sequence[str]) -> "Figure | None":
    series = {"": [_at(report, "utility", "sets", name, "balanced_accuracy") for name in SETS]}
    figure = _dots(
        "Classifier on real test images, by training set", "balanced accuracy", list(SETS.values()), series
    )
    if figure:
        figure.axes[0].axvline(1 / len(class_names), color=GREY, lw=0.8, ls="--")
    return figure


def _dots(title: str, x: str, rows: Sequence[str], series: Mapping[str, Sequence[Metric]]) -> "Figure | None":
    """``rows`` down, the first on top, and in each a dot a series with its interval; None where there is no value at all."""
    shown = {name: metrics for name, metrics in series.items() if any(_there(metrics))}
    if not shown:
        return None
    figure, axes = axes_of(title, x, "")
    axes.title.set_fontsize(10)
    step = 0.7 / len(shown)
    for index, (name, metrics) in enumerate(shown.items()):
        places = [
            row + (index - (len(shown) - 1) / 2) * step for row, there in enumerate(_there(metrics)) if there
        ]
        values = [metric for metric in metrics if metric and metric.get("value") is not None]
        ends = list(zip(*(_reach(metric) for metric in values), strict=True))
        colour = COLOURS[index % len(COLOURS)]
        axes.errorbar(
            [metric["value"] for metric in values],
            places,
            xerr=ends,
            fmt="o",
            ms=3.5,
            lw=1.2,
            color=colour,
            label=name,
        )
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    if len(shown) > 1:
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(3, len(shown)),
            frameon=False,
            fontsize=8,
        )
    return figure


def _there(metrics: Iterable[Metric]) -> list[bool]:
    return [_at(metric, "value") is not None for metric in metrics]


def _reach(metric: Mapping[str, Any]) -> tuple[float, float]:
    """How far the interval reaches below and above the value."""
    low, high = metric.get("ci95") or (metric["value"],) * 2
    return max(metric["value"] - low, 0), max(high - metric["value"], 0)


def _arms(report: Mapping[str, Any]) -> dict[str, Any]:
    """What was compared with real images, by its title: the floor first, extra arms last."""
    return {title: report.get(arm) for arm, title in ARMS.items()} | dict(report.get("extra") or {})


def _set_metric(arm: Any, group: str, space: str, metric: str) -> Metric:
    return _at(arm, group, *([] if space == "labeller" else [space]), metric)


def _groups(class_names: Sequence[str]) -> list[str]:
    return ["overall", *(class_names if len(class_names) <= MOST_CLASSES else ())]


def _tenth_below(largest: float) -> float:
    """Where an axis that must show ``largest`` turns linear: two powers of ten below it."""
    from math import floor, log10

    return 10.0 ** (floor(log10(max(largest, 1e-9))) - 1)


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
