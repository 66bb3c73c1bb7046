"""The table of labels: its columns, its bytes on disk, and labels that carry no information."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.tables import write_csv
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.labelling.calibration import Calibration
from vdm_pipeline.stages.labelling.labels import check_every_class_predicted, label_table, read_labels

NAMES = ["normal", "pneumonia"]
ARGMAX = Calibration("none", "argmax", 1.0, (0.0, 0.0), (0.5, 0.5))


def toy_archive(folder: Path, split: str, labels: list[int]) -> Archive:
    images = np.zeros((len(labels), 8, 8), np.uint8)
    return Archive(
        "toy", 8, {split: Split.from_arrays(images, np.array(labels))}, folder, "", "", "unverified"
    )


def test_one_label_for_all_images_is_an_error_for_captions(tmp_path):
    archive = toy_archive(tmp_path, "train", [0, 1, 0, 1])
    constant = label_table(archive, {"train": np.tile([0.2, 0.8], (4, 1))}, ARGMAX, NAMES)
    assert constant["auto_label"].tolist() == ["pneumonia"] * 4
    with pytest.raises(PipelineError, match="normal on 4 images"):
        check_every_class_predicted(constant, NAMES)


def test_a_class_that_is_never_predicted_is_an_error_for_captions():
    table = pd.DataFrame({"auto_label": ["a", "b", "b"]})
    with pytest.raises(PipelineError, match="c on 3 images"):
        check_every_class_predicted(table, ["a", "b", "c"])


@pytest.mark.parametrize("names", [["0", "1"], ["null", "nan"], ["false", "true"], ["1e5", "na"]])
def test_class_names_stay_text(tmp_path, names):
    columns = {
        "image_id": ["x_0", "x_1"],
        "auto_label": names,
        "ground_truth": [0, 1],
        "ground_truth_label": names,
        "split": "test",
    }
    table = pd.DataFrame(columns | {"confidence_score": [0.5, np.nan], f"p_{names[0]}": [0.5, 1.0]})
    write_csv(tmp_path / "labels.csv", table)
    loaded = read_labels(tmp_path / "labels.csv")
    assert loaded["auto_label"].tolist() == loaded["ground_truth_label"].tolist() == names
    assert loaded["confidence_score"].isna().tolist() == [False, True]
    assert loaded["ground_truth"].tolist() == [0, 1]


def test_table_has_the_documented_columns(tmp_path):
    archive = toy_archive(tmp_path, "test", [0, 1])
    table = label_table(archive, {"test": np.log([[0.9, 0.1], [0.7, 0.3]])}, ARGMAX, NAMES)
    columns = ["image_id", "auto_label", "ground_truth", "ground_truth_label", "confidence_score", "split"]
    assert list(table.columns) == [
        *columns,
        "p_normal",
        "p_pneumonia",
        "zero_shot_p_normal",
        "zero_shot_p_pneumonia",
    ]
    row = table.iloc[1].tolist()
    assert row[:4] + row[5:6] == ["toy_test_000001", "normal", 1, "pneumonia", "test"]
    assert row[4:5] + row[6:] == pytest.approx([0.7, 0.7, 0.3, 0.7, 0.3])


def test_confidence_is_the_calibrated_probability_of_the_label(tmp_path):
    archive = toy_archive(tmp_path, "test", [1])
    low_cut = Calibration("platt", "sensitivity", 2.0, (0.0, 0.0), (0.8, 0.2))
    table = label_table(archive, {"test": np.log([[0.6, 0.4]])}, low_cut, NAMES)
    sick = 0.4**2 / (0.4**2 + 0.6**2)
    assert table["auto_label"].tolist() == ["pneumonia"]
    assert table["confidence_score"].tolist() == table["p_pneumonia"].tolist() == pytest.approx([sick])
    assert table["zero_shot_p_pneumonia"].tolist() == pytest.approx([0.4])
