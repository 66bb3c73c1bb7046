"""The loss curve of a training."""

from pathlib import Path
from typing import TYPE_CHECKING

from vdm_pipeline.stages.report.plots.figure import BLUE, ORANGE, new_figure, plot_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@plot_style()
def loss_figure(training_log: Path) -> "Figure":
    """Training and validation loss by step, from ``training_log.csv``."""
    import pandas as pd

    log = pd.read_csv(training_log)
    figure, axes = new_figure("LoRA training", "step", "loss")
    axes.plot(log["step"], log["loss"], color=BLUE, label="training, mean since the last point")
    validated = log.dropna(subset="validation_loss")
    if len(validated):
        losses = validated["validation_loss"]
        axes.plot(validated["step"], losses, color=ORANGE, marker=".", label="held-out images, fixed noise")
    axes.legend(frameon=False, fontsize=8)
    return figure
