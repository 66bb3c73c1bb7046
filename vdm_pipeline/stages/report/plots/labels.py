"""Plots of the label quality on test: ROC, reliability, confusion matrix and scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.evaluation.metrics.labels import BINS, calibrated_labels, uncalibrated_labels
from vdm_pipeline.stages.report.plots.figure import BLUE, GREY, ORANGE, new_figure, plot_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@plot_style()
def label_figures(table: "pd.DataFrame", class_names: Sequence[str]) -> dict[str, "Figure"]:
    """Figures by name, in reading order.

    There is no ROC of a class that test lacks, or that is all of test.
    """
    test = table[table["split"] == "test"]
    figures = {
        "roc": _roc(test, class_names),
        "reliability": _reliability(test, class_names),
        "confusion": _confusion(test, class_names),
        "scores": _scores(test, class_names),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _roc(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure | None":
    """Class 1 if there are two classes, otherwise each class against all others."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth, _, probabilities = calibrated_labels(test, class_names)
    candidates = [1] if len(class_names) == 2 else range(len(class_names))
    shown = [label for label in candidates if 0 < (truth == label).sum() < len(truth)]
    if not shown:
        return None
    figure, axes = new_figure("Labels on test: ROC", "false positive rate", "true positive rate", square=True)
    for label in shown:
        false_rate, true_rate, _ = roc_curve(truth == label, probabilities[:, label])
        area = roc_auc_score(truth == label, probabilities[:, label])
        colour = BLUE if len(shown) == 1 else None
        axes.plot(false_rate, true_rate, color=colour, label=f"{class_names[label]}, AUC {area:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _reliability(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure":
    """Share of correct labels by confidence, for the labels in use and for the plain argmax."""
    truth, labels, probabilities = calibrated_labels(test, class_names)
    plain_labels, plain_probabilities = uncalibrated_labels(test, class_names)
    figure, axes = new_figure(
        "Labels on test: reliability", "confidence of the label", "share of correct labels", square=True
    )
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    for title, predicted, values, colour in (
        ("plain argmax", plain_labels, plain_probabilities, ORANGE),
        ("labels in use", labels, probabilities, BLUE),
    ):
        confidence, correct, counts = reliability(
            values[np.arange(len(truth)), predicted], predicted == truth
        )
        axes.plot(confidence, correct, color=colour, lw=1, label=title)
        axes.scatter(confidence, correct, s=4 + 120 * counts / counts.sum(), color=colour, clip_on=False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", title="dot area: images", title_fontsize=7)
    return figure


def reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean confidence, share of correct labels and number of images, ``[3, bins]``, without empty bins."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    confidence_sums = np.bincount(bins, confidence, minlength=BINS)[filled]
    correct_sums = np.bincount(bins, correct.astype(float), minlength=BINS)[filled]
    return np.stack([confidence_sums / counts[filled], correct_sums / counts[filled], counts[filled]])


def _confusion(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure":
    """Counts, coloured by their share of the true class."""
    from sklearn.metrics import confusion_matrix

    truth, labels, _ = calibrated_labels(test, class_names)
    matrix = confusion_matrix(truth, labels, labels=range(len(class_names)))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure, axes = new_figure("Labels on test: confusion matrix", "label", "true class")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    ticks = np.arange(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=0 if len(class_names) == 2 else 60, fontsize=8)
    axes.set_yticks(ticks, class_names, fontsize=8)
    for row, column in np.ndindex(matrix.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour, fontsize=9)
    return figure


def _scores(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure":
    """Two classes: the probability of class 1 by true class. More: the confidence by correctness."""
    truth, labels, probabilities = calibrated_labels(test, class_names)
    if len(class_names) == 2:
        x = f"probability of {class_names[1]}"
        figure, axes = new_figure("Labels on test: scores", x, "test images")
        groups = [probabilities[truth == label, 1] for label in (0, 1)]
        titles = [f"true class {name}" for name in class_names]
    else:
        figure, axes = new_figure("Labels on test: confidence", "confidence of the label", "test images")
        confidence = probabilities[np.arange(len(truth)), labels]
        groups, titles = [confidence[labels == truth], confidence[labels != truth]], ["correct", "wrong"]
    axes.hist(groups, bins=20, range=(0, 1), stacked=True, color=[BLUE, ORANGE], label=titles)
    axes.legend(frameon=False, fontsize=8)
    return figure
