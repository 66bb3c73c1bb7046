"""The training's loss curve as a PNG."""

from pathlib import Path

from vdm_pipeline.io.atomic import atomic_file


def loss_plot(training_log: Path, path: Path) -> None:
    """Draw step against loss from ``training_log.csv``."""
    import pandas as pd
    from matplotlib.figure import Figure

    log = pd.read_csv(training_log)
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(log["step"], log["loss"], color="#2a6f97")
    axes.set(xlabel="step", ylabel="loss (mean squared error of the predicted noise)", title="LoRA training")
    axes.yaxis.label.set_fontsize(8)
    axes.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
