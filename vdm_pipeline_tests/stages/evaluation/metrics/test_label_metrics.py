"""Label metrics against brute force and against a case worked by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.stages.evaluation.metrics.labels import calibration_error, label_report, score

NAMES = ("normal", "pneumonia")
TRUTH = np.array([0, 0, 0, 1, 1, 1])
P1 = np.array([0.1, 0.4, 0.8, 0.3, 0.6, 0.9])
"""By hand at 0.5: rows 0, 1, 4, 5 are correct; tn 2, fp 1, fn 1, tp 2."""


def pair(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


def frame(
    truth: np.ndarray,
    probabilities: np.ndarray,
    split: list[str],
    names: tuple[str, ...],
    uncalibrated: np.ndarray | None = None,
) -> pd.DataFrame:
    """Labels are the argmax of ``probabilities``; ``uncalibrated`` are the same unless given."""
    uncalibrated = probabilities if uncalibrated is None else uncalibrated
    columns = {f"p_{name}": probabilities[:, index] for index, name in enumerate(names)}
    columns |= {f"zero_shot_p_{name}": uncalibrated[:, index] for index, name in enumerate(names)}
    labels = [names[i] for i in probabilities.argmax(1)]
    return pd.DataFrame({"ground_truth": truth, "auto_label": labels, "split": split, **columns})


def scored(truth: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...] = NAMES) -> dict:
    return score(truth, probabilities.argmax(1), probabilities, names, resamples=20)


def brute_auc(truth: np.ndarray, ranked: np.ndarray) -> float:
    pairs = list(itertools.product(ranked[truth == 1], ranked[truth == 0]))
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def brute_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    total = 0.0
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        rows = [i for i, c in enumerate(confidence) if low <= c < high or (index == 14 and c == 1)]
        if rows:
            accuracy = sum(bool(correct[i]) for i in rows) / len(rows)
            total += (
                len(rows) / len(confidence) * abs(accuracy - sum(confidence[i] for i in rows) / len(rows))
            )
    return total


def noisy(n: int, seed: int, digits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.6).astype(np.int64)
    return truth, pair(np.round(1 / (1 + np.exp(-(truth - 0.5 + 1.2 * rng.standard_normal(n)))), digits))


def test_case_worked_by_hand():
    result = scored(TRUTH, pair(P1))
    assert result["n"] == 6
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["majority_baseline_accuracy"] == pytest.approx(0.5)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert result["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert result["brier"] == pytest.approx((0.01 + 0.16 + 0.64 + 0.49 + 0.16 + 0.01) / 6)
    assert result["roc_auc"] == pytest.approx(6 / 9)
    assert result["confusion_matrix"] == {"tn": 2, "fp": 1, "fn": 1, "tp": 2}


def test_classes_of_unlike_size():
    truth, p = np.array([0, 1, 1, 1, 1]), np.array([0.6, 0.9, 0.9, 0.9, 0.2])
    result = scored(truth, pair(p))
    assert result["accuracy"] == pytest.approx(0.6)
    assert result["majority_baseline_accuracy"] == pytest.approx(0.8)
    assert result["balanced_accuracy"] == pytest.approx((0 + 0.75) / 2)
    assert result["f1"] == pytest.approx(6 / 8)


@pytest.mark.parametrize("digits", [8, 1], ids=["plain", "ties"])
def test_auc_is_the_share_of_pairs_in_order(digits):
    truth, probabilities = noisy(60, 1, digits)
    assert scored(truth, probabilities)["roc_auc"] == pytest.approx(brute_auc(truth, probabilities[:, 1]))


def test_calibration_error_against_a_loop_over_bins():
    rng = np.random.default_rng(2)
    confidence = np.concatenate([rng.random(400), [1.0, 1.0, 0.0]])
    correct = rng.random(403) < 0.5 + 0.45 * np.sin(40 * confidence)
    assert calibration_error(confidence, correct) == pytest.approx(brute_ece(confidence, correct))
    assert calibration_error(np.full(4, 0.75), np.array([True, True, True, False])) == pytest.approx(0)
    assert calibration_error(np.ones(4), np.zeros(4, bool)) == pytest.approx(1)


def test_three_classes():
    names = ("a", "b", "c")
    truth = np.array([0, 0, 1, 1, 2, 2, 2])
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(3), 7) * 0.5 + 0.5 * np.eye(3)[[0, 1, 1, 1, 2, 2, 0]]
    result = scored(truth, probabilities, names)
    predicted = probabilities.argmax(1)
    assert result["accuracy"] == pytest.approx(
        np.mean([t == p for t, p in zip(truth, predicted, strict=True)])
    )
    recalls = [np.mean(predicted[truth == c] == c) for c in range(3)]
    assert result["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    one_against_rest = [brute_auc((truth == c).astype(int), probabilities[:, c]) for c in range(3)]
    assert result["roc_auc"] == pytest.approx(np.mean(one_against_rest))
    f1 = [
        2 * np.sum((predicted == c) & (truth == c)) / (np.sum(predicted == c) + np.sum(truth == c))
        for c in range(3)
    ]
    assert result["f1"] == pytest.approx(np.mean(f1))
    squares = [sum((probabilities[i, c] - (truth[i] == c)) ** 2 for c in range(3)) for i in range(7)]
    assert result["brier"] == pytest.approx(np.mean(squares))
    for true, predicted_name in itertools.product(range(3), range(3)):
        expected = int(np.sum((truth == true) & (predicted == predicted_name)))
        assert result["confusion_matrix"][names[true]][names[predicted_name]] == expected
    report = label_report(frame(truth, probabilities, ["train"] * 7, names), names, resamples=20)
    low, high = report["train"]["roc_auc_ci95"]
    assert low <= report["train"]["roc_auc"] <= high


@pytest.mark.parametrize("only", [0, 1])
def test_split_of_one_class_has_no_auc(only):
    truth = np.concatenate([TRUTH, np.full(3, only)])
    probabilities = pair(np.concatenate([P1, [0.2, 0.7, 0.4]]))
    report = label_report(
        frame(truth, probabilities, ["train"] * 6 + ["test"] * 3, NAMES), NAMES, resamples=20
    )
    assert report["test"]["roc_auc"] is None
    assert report["test"]["roc_auc_ci95"] is None
    assert report["test"]["accuracy"] == pytest.approx([2 / 3, 1 / 3][only])
    assert report["overall"]["roc_auc"] == pytest.approx(brute_auc(truth, probabilities[:, 1]))


def test_labels_need_not_be_the_argmax():
    result = score(TRUTH, np.array([0, 0, 1, 1, 1, 1]), pair(P1), NAMES, resamples=20)
    assert result["confusion_matrix"] == {"tn": 2, "fp": 1, "fn": 0, "tp": 3}
    assert result["ece"] == pytest.approx(
        brute_ece(np.array([0.9, 0.6, 0.8, 0.3, 0.6, 0.9]), np.array([1, 1, 0, 1, 1, 1]))
    )


def test_report_scores_each_split_by_its_own_rows():
    truth, probabilities = noisy(90, 7)
    uncalibrated = noisy(90, 8)[1]
    split = ["train"] * 40 + ["val"] * 20 + ["test"] * 30
    report = label_report(
        frame(truth, probabilities, split, NAMES, uncalibrated), NAMES, resamples=50, seed=1
    )
    assert list(report) == ["train", "val", "test", "overall"]
    for name, rows in (
        ("train", slice(0, 40)),
        ("val", slice(40, 60)),
        ("test", slice(60, 90)),
        ("overall", slice(0, 90)),
    ):
        for metrics, values in (
            (report[name], probabilities[rows]),
            (report[name]["uncalibrated"], uncalibrated[rows]),
        ):
            alone = score(truth[rows], values.argmax(1), values, NAMES, resamples=50, seed=1)
            assert {key: metrics[key] for key in alone} == alone
            low, high = metrics["roc_auc_ci95"]
            assert low < metrics["roc_auc"] < high
    assert report == label_report(
        frame(truth, probabilities, split, NAMES, uncalibrated), NAMES, resamples=50, seed=1
    )
