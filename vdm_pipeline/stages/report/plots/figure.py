"""Size, grid, colours and file format that all plots share."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.io.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2a6f97", "#d9822b", "#8a949e"


def new_figure(title: str, x: str, y: str, *, square: bool = False) -> tuple["Figure", Any]:
    """A figure and its axes, with a title and axis labels; ``square``: both axes from 0 to 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if square:
        axes.set(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return figure, axes


def save_figure(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG, atomically."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
