"""How a training went."""

from pathlib import Path
from typing import TYPE_CHECKING

from vdm_pipeline.stages.plots.figure import BLUE, axes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_figure(training_log: Path) -> "Figure":
    """Step against loss, from ``training_log.csv``."""
    import pandas as pd

    log = pd.read_csv(training_log)
    figure, axes = axes_of("LoRA training loss", "step", "mean squared error of the noise")
    axes.plot(log["step"], log["loss"], color=BLUE)
    return figure
