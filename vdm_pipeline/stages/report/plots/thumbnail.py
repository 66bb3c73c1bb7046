"""Plots as small pictures of few colours."""

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.report.plots.figure import plot_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


def remove_texts(figure: "Figure") -> None:
    """Remove titles, axis labels, legends and grids. The numbers on the axes stay."""
    figure.suptitle("")
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        if legend:
            legend.remove()
    for axes in figure.axes:
        axes.set(title="", xlabel="", ylabel="")
        axes.grid(False)


@plot_style()
def draw(figure: "Figure", dpi: int) -> "Image":
    """The figure as an RGB picture."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as image:
        return image.convert("RGB")


def reduce_colours(picture: "Image", colours: int) -> NDArray[np.uint8]:
    """The picture as ``[h, w, 3]``, uint8, reduced to the most important ``colours``."""
    from PIL import Image

    return np.asarray(picture.quantize(colours, dither=Image.Dither.NONE).convert("RGB"))
