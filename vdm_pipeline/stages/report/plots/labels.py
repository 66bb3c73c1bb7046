"""How good the labels are on test: ROC, reliability, confusion and scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.evaluation.metrics.labels import BINS, as_used, plain
from vdm_pipeline.stages.report.plots.figure import BLUE, GREY, ORANGE, axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def label_figures(table: "pd.DataFrame", class_names: Sequence[str]) -> dict[str, "Figure"]:
    """By name, in the order in which they are looked at. No ROC of a class that test lacks, or that is all of test."""
    test = table[table["split"] == "test"]
    figures = {
        "roc": _roc(test, class_names),
        "reliability": _reliability(test, class_names),
        "confusion": _confusion(test, class_names),
        "scores": _scores(test, class_names),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _roc(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure | None":
    """Class 1 of two, or each of more classes against all others."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth, _, probabilities = as_used(test, class_names)
    shown = [1] if len(class_names) == 2 else range(len(class_names))
    there = [label for label in shown if 0 < (truth == label).sum() < len(truth)]
    if not there:
        return None
    figure, axes = axes_of("Labels on test: ROC", "false positive rate", "true positive rate", square=True)
    for label in there:
        false, true, _ = roc_curve(truth == label, probabilities[:, label])
        area = roc_auc_score(truth == label, probabilities[:, label])
        axes.plot(
            false,
            true,
            label=f"{class_names[label]}, AUC {area:.3f}",
            **({"color": BLUE} if len(there) == 1 else {}),
        )
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _reliability(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure":
    """Share that is right against confidence, bin by bin, of the labels as they are used and of the plain argmax."""
    truth, used, probabilities = as_used(test, class_names)
    figure, axes = axes_of(
        "Labels on test: reliability", "confidence of the label", "share that is right", square=True
    )
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls="--")
    for title, predicted, values, colour in (
        ("plain argmax", *plain(test, class_names), ORANGE),
        ("as used", used, probabilities, BLUE),
    ):
        confidence, right, counts = reliability(values[np.arange(len(truth)), predicted], predicted == truth)
        axes.plot(confidence, right, color=colour, lw=1, label=title)
        axes.scatter(confidence, right, s=4 + 120 * counts / counts.sum(), color=colour)
    axes.legend(frameon=False, fontsize=8, loc="upper left", title="area of a dot: images", title_fontsize=7)
    return figure


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean confidence, share that is right and number of images, ``[3, bins]``, of the bins that are not empty."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    there = counts > 0
    sums = [np.bincount(bins, values, minlength=BINS)[there] for values in (confidence, right.astype(float))]
    return np.stack([sums[0] / counts[there], sums[1] / counts[there], counts[there]])


def _confusion(test: "pd.DataFrame", class_names: Sequence[str]) -> "Figure":
    """Counts, coloured by the share of the true class."""
    from sklearn.metrics import confusion_matrix

    truth, used, _ = as_used(test, class_names)
    matrix = confusion_matrix(truth, used, labels=range(len(class_names)))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure, axes = axes_of("Labels on test: confusion", "label", "truth")
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
    """Of two classes the probability of class 1 by truth; of more, the confidence by right and wrong."""
    truth, used, probabilities = as_used(test, class_names)
    if len(class_names) == 2:
        figure, axes = axes_of("Labels on test: scores", f"probability of {class_names[1]}", "test images")
        groups, names = (
            [probabilities[truth == label, 1] for label in (0, 1)],
            [f"truly {name}" for name in class_names],
        )
    else:
        figure, axes = axes_of("Labels on test: confidence", "confidence of the label", "test images")
        confidence = probabilities[np.arange(len(truth)), used]
        groups, names = [confidence[used == truth], confidence[used != truth]], ["right", "wrong"]
    axes.hist(groups, bins=20, range=(0, 1), stacked=True, color=[BLUE, ORANGE], label=names)
    axes.legend(frameon=False, fontsize=8)
    return figure
