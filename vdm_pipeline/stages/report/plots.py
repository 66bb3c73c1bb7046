"""Plots of the report, as matplotlib figures; none touches pyplot's global state."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.io.atomic import atomic_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BLUE, ORANGE = "#2a6f97", "#d9822b"


def loss_figure(training_log: Path) -> "Figure":
    """Step against loss, from ``training_log.csv``."""
    import pandas as pd

    log = pd.read_csv(training_log)
    figure, axes = _axes()
    axes.plot(log["step"], log["loss"], color=BLUE)
    axes.set(xlabel="step", ylabel="mean squared error of the noise", title="LoRA training loss")
    return figure


def roc_figure(table: "pd.DataFrame", positive: str) -> "Figure":
    """ROC of a two-class table on its test split."""
    from sklearn.metrics import roc_curve

    test = table[table["split"] == "test"]
    false, true, _ = roc_curve(test["ground_truth"], test[f"p_{positive}"])
    figure, axes = _axes()
    axes.plot(false, true, color=BLUE)
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="Labels on test: ROC", aspect="equal")
    return figure


def score_figure(table: "pd.DataFrame", names: tuple[str, ...]) -> "Figure":
    """Histogram of the last class's probability on the test split, by true class."""
    test = table[table["split"] == "test"]
    figure, axes = _axes()
    groups = [test.loc[test["ground_truth_label"] == name, f"p_{names[-1]}"] for name in names]
    axes.hist(groups, bins=20, range=(0, 1), stacked=True, label=[f"truly {name}" for name in names])
    axes.set(xlabel=f"probability of {names[-1]}", ylabel="test images", title="Labels on test: scores")
    axes.legend(frameon=False, fontsize=8)
    return figure


def confidence_figure(table: "pd.DataFrame") -> "Figure":
    """Histogram of the confidence on the test split, by right and wrong."""
    test = table[table["split"] == "test"]
    right = test["auto_label"] == test["ground_truth_label"]
    figure, axes = _axes()
    groups = [test.loc[mask, "confidence_score"] for mask in (right, ~right)]
    axes.hist(groups, bins=20, range=(0, 1), stacked=True, color=[BLUE, ORANGE], label=["right", "wrong"])
    axes.set(xlabel="confidence of the label", ylabel="test images", title="Labels on test: confidence")
    axes.legend(frameon=False, fontsize=8)
    return figure


def figure_uri(figure: "Figure") -> str:
    """The figure as a PNG in a ``data:`` URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write the figure as a PNG, atomically."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _axes() -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
