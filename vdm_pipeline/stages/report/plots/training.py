"""How a training went."""

from pathlib import Path
from typing import TYPE_CHECKING

from vdm_pipeline.stages.report.plots.figure import BLUE, ORANGE, axes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_figure(training_log: Path) -> "Figure":
    """Step against training and validation loss, from ``training_log.csv``."""
    import pandas as pd

    log = pd.read_csv(training_log)
    figure, axes = axes_of("LoRA training", "step", "loss")
    axes.plot(log["step"], log["loss"], color=BLUE, label="training, mean since the point before")
    validated = log.dropna(subset="validation_loss")
    if len(validated):
        axes.plot(
            validated["step"],
            validated["validation_loss"],
            color=ORANGE,
            marker=".",
            label="held-out images, fixed noise",
        )
    axes.legend(frameon=False, fontsize=8)
    return figure
