"""No real image is used twice, and none that trained the adapter is a reference."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.evaluation.real_images import (
    control_images,
    reference_images,
    subset_images,
    unseen_images,
)

COUNTS = {"train": 30, "val": 12, "test": 9}


@pytest.fixture
def archive(tmp_path) -> Archive:
    """Every image is of one grey level, its place in the archive."""
    levels, splits = iter(range(256)), {}
    for name, count in COUNTS.items():
        images = np.stack([np.full((8, 8), next(levels), np.uint8) for _ in range(count)])
        splits[name] = Split.of(images, np.arange(count) % 2)
    return Archive("phantom", 8, splits, tmp_path, "", "", "phantom")


def faults(*rows: tuple[str, int, str, int]) -> pd.DataFrame:
    """Rows (split, index, twin's split, twin's index)."""
    columns = ["image_id", "split", "twin", "twin_split"]
    return pd.DataFrame(
        [(f"phantom_{s}_{i:06d}", s, f"phantom_{t}_{j:06d}", t) for s, i, t, j in rows],
        columns=columns,
        dtype=object,
    )


def levels(real) -> list[int]:
    return real.images[:, 0, 0].tolist()


def test_reference_is_val_without_what_stands_elsewhere_or_twice(archive):
    found = reference_images(
        archive,
        faults(("train", 4, "val", 3), ("val", 5, "val", 1), ("val", 7, "test", 0), ("train", 2, "train", 1)),
        8,
    )
    assert levels(found) == [30 + i for i in range(12) if i not in (3, 5, 7)]
    assert found.ids[3] == "phantom_val_000004"
    assert found.labels.tolist() == [i % 2 for i in range(12) if i not in (3, 5, 7)]


def test_images_that_are_only_blank_stay(archive):
    blank = pd.DataFrame(
        {"image_id": ["phantom_val_000000"], "split": ["val"], "twin": [None], "twin_split": [None]}
    )
    assert len(reference_images(archive, blank, 8).ids) == 12


def test_no_reference_is_an_error(archive):
    with pytest.raises(PipelineError, match="every val image also stands in train or test"):
        reference_images(archive, faults(*(("val", i, "test", 0) for i in range(12))), 8)


def test_fresh_images_are_neither_in_the_subset_nor_copies(archive):
    taken = {f"phantom_train_{i:06d}" for i in range(10)}
    table = faults(("train", 12, "val", 0), ("train", 13, "train", 20), ("train", 15, "test", 1))
    found = control_images(archive, table, taken, (5, 50), 0, 8)
    assert not {*found.ids} & {*taken, "phantom_train_000012", "phantom_train_000013", "phantom_train_000015"}
    assert np.bincount(found.labels).tolist() == [5, 8]
    assert [int(name[-6:]) for name in found.ids] == levels(found)
    assert levels(found) != levels(control_images(archive, table, taken, (5, 50), 1, 8))


def test_subset_is_read_with_its_true_labels_and_those_of_its_captions(tmp_path):
    rows = [
        {"file_name": f"images/{i}.png", "image_id": f"id{i}", "label": "b", "ground_truth": "ab"[i]}
        for i in range(2)
    ]
    for i in range(2):
        write_png(tmp_path / f"images/{i}.png", np.full((4, 4), i + 7, np.uint8))
    write_rows(tmp_path / "metadata.jsonl", rows)
    subset, captioned = subset_images(Path(tmp_path), ("a", "b"), 8)
    assert subset.images.shape == (2, 8, 8)
    assert (levels(subset), subset.labels.tolist(), captioned.tolist(), subset.ids) == (
        [7, 8],
        [0, 1],
        [1, 1],
        ["id0", "id1"],
    )


def test_unseen_images_are_all_of_test(archive):
    assert levels(unseen_images(archive, 16)) == list(range(42, 51))
