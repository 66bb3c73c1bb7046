"""Settings, size, grid, colours and file format that all plots share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2a6f97", "#d9822b", "#8a949e"


@contextmanager
def plot_style() -> Iterator[None]:
    """Matplotlib's own defaults instead of the user's ``matplotlibrc``; also a decorator.

    Figures read settings when they are drawn and when they are saved, so both happen inside. Raises
    `PipelineError` if Matplotlib cannot be imported, because that file cannot be read.
    """
    try:
        with _environment(MPLBACKEND="agg"):  # the user's may be one that Matplotlib does not know
            import matplotlib
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"Matplotlib cannot read the matplotlibrc in the working folder or in $MATPLOTLIBRC ({error}); "
            "correct the file, or move it away."
        ) from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables for the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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


@plot_style()
def save_figure(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG, atomically; equal figures have equal bytes."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
