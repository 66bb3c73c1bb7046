"""Plots of the labels: complete for any number of classes, and with the values of the metrics file."""

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.stages.evaluation.metrics.labels import calibration_error
from vdm_pipeline.stages.report.plots.labels import label_figures, reliability


def label_table(n_classes: int, n: int = 120, n_present: int | None = None) -> pd.DataFrame:
    """Labels on test that are right three times in four."""
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(n_classes)]
    truth = np.arange(n) % (n_present or n_classes)
    p = rng.dirichlet(np.ones(n_classes), n)
    p += 1.5 * np.eye(n_classes)[truth] * (rng.random(n) < 0.75)[:, None]
    p /= p.sum(axis=1, keepdims=True)
    columns = {"split": "test", "ground_truth": truth, "auto_label": [names[i] for i in p.argmax(1)]}
    for i, name in enumerate(names):
        columns |= {f"p_{name}": p[:, i], f"zero_shot_p_{name}": p[:, i]}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_four_plots_for_any_number_of_classes(n_classes):
    figures = label_figures(label_table(n_classes), [f"c{i}" for i in range(n_classes)])
    assert list(figures) == ["roc", "reliability", "confusion", "scores"]
    lines = [line for line in figures["roc"].axes[0].lines if str(line.get_label()).startswith("c")]
    assert len(lines) == (1 if n_classes == 2 else n_classes)


def test_confusion_shows_the_counts():
    labels = label_table(3)
    axes = label_figures(labels, ["c0", "c1", "c2"])["confusion"].axes[0]
    shown = np.array([int(text.get_text()) for text in axes.texts]).reshape(3, 3)
    counted = pd.crosstab(labels["ground_truth"], labels["auto_label"]).to_numpy()
    np.testing.assert_array_equal(shown, counted)


@pytest.mark.parametrize(("n_classes", "n_present", "drawn"), [(2, 1, False), (3, 1, False), (3, 2, True)])
def test_no_roc_of_a_missing_class(n_classes, n_present, drawn):
    figures = label_figures(label_table(n_classes, n_present=n_present), [f"c{i}" for i in range(n_classes)])
    assert ("roc" in figures) is drawn


def test_reliability_bins_sum_to_the_calibration_error():
    rng = np.random.default_rng(1)
    confidence = np.append(rng.random(500), [0.0, 1.0])
    right = rng.random(502) < confidence**2
    mean, share, counts = reliability(confidence, right)
    assert counts.sum() == 502
    assert (np.abs(mean - share) * counts).sum() / 502 == pytest.approx(calibration_error(confidence, right))
