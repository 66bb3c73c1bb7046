"""Changes between the previous and the new labels."""

import pandas as pd
import pytest

from vdm_pipeline.stages.labelling.relabel_diff import (
    flipped_labels,
    metrics_before_and_after,
    previous_labels,
)


def labels(
    letters: str, split: str = "test", names: tuple[str, str] = ("normal", "pneumonia")
) -> pd.DataFrame:
    names = dict(zip("np", names, strict=True))
    return pd.DataFrame(
        {
            "image_id": [f"x_{i}" for i in range(len(letters))],
            "split": split,
            "auto_label": [names[letter] for letter in letters],
            "confidence_score": [0.5 + i / 10 for i in range(len(letters))],
            "ground_truth_label": [names[letter] for letter in "nnpp"],
        }
    )


def test_flipped_labels_and_metrics(tmp_path):
    labels("npnn").to_csv(tmp_path / "old.csv", index=False)
    old = previous_labels(tmp_path / "old.csv")
    rows = flipped_labels(old, labels("nnpn"))
    assert rows[["image_id", "before", "after"]].to_numpy().tolist() == [
        ["x_1", "pneumonia", "normal"],
        ["x_2", "normal", "pneumonia"],
    ]
    columns = ["image_id", "split", "before", "after", "confidence_before", "confidence_after"]
    assert list(rows.columns) == columns
    metrics = metrics_before_and_after(old, labels("nnpn"))
    expected = {"accuracy": (0.25, 0.75), "balanced_accuracy": (0.25, 0.75), "mcc": (-0.5774, 0.5774)}
    assert metrics == {
        f"test_{name}_{when}": value
        for name, pair in expected.items()
        for when, value in zip(("before", "after"), pair, strict=True)
    }


def test_images_in_only_one_table_are_ignored():
    assert flipped_labels(labels("npnn").iloc[:1], labels("pppp"))["image_id"].tolist() == ["x_0"]


def test_each_table_is_scored_by_its_own_true_labels():
    metrics = metrics_before_and_after(labels("nnpp").assign(ground_truth_label="normal"), labels("nnpp"))
    assert (metrics["test_accuracy_before"], metrics["test_accuracy_after"]) == (0.5, 1.0)


@pytest.mark.parametrize("names", [("0", "1"), ("null", "pneumonia"), ("none", "nan"), ("true", "false")])
def test_class_names_may_look_like_numbers_or_null(tmp_path, names):
    labels("npnn", names=names).to_csv(tmp_path / "old.csv", index=False)
    old = previous_labels(tmp_path / "old.csv")
    assert flipped_labels(old, labels("nnpn", names=names))["before"].tolist() == [names[1], names[0]]
    assert metrics_before_and_after(old, labels("nnpn", names=names))["test_accuracy_before"] == 0.25


@pytest.mark.parametrize("content", [None, b"", b"image_id,split\na,test\n", b"\xff\xfe\x00", b'a,b\n"x'])
def test_without_a_readable_table_the_diff_is_empty(tmp_path, content):
    if content is not None:
        (tmp_path / "old.csv").write_bytes(content)
    old = previous_labels(tmp_path / "old.csv")
    assert old is None
    assert flipped_labels(old, labels("nnpp")).empty
    assert metrics_before_and_after(old, labels("nnpp")) == {}
