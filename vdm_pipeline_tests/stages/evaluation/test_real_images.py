"""No real image is used twice, and no training image of the adapter is a reference or control image."""

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
    """Every image has one grey level, its index in the archive."""
    first, splits = 0, {}
    for name, count in COUNTS.items():
        grey_levels = np.arange(first, first + count, dtype=np.uint8)
        images = np.ones((count, 8, 8), np.uint8) * grey_levels[:, None, None]
        splits[name] = Split.from_arrays(images, np.arange(count) % 2)
        first += count
    return Archive("phantom", 8, splits, tmp_path, "", "", "phantom")


def faults(*rows: tuple[str, int, str, int]) -> pd.DataFrame:
    """Rows of split, index, twin's split, twin's index."""
    columns = ["image_id", "split", "twin", "twin_split"]
    return pd.DataFrame(
        [(f"phantom_{s}_{i:06d}", s, f"phantom_{t}_{j:06d}", t) for s, i, t, j in rows],
        columns=columns,
        dtype=object,
    )


def levels(real) -> list[int]:
    return real.images[:, 0, 0].tolist()


def test_reference_is_val_without_duplicates(archive):
    result = reference_images(
        archive,
        faults(("train", 4, "val", 3), ("val", 5, "val", 1), ("val", 7, "test", 0), ("train", 2, "train", 1)),
        8,
    )
    assert levels(result) == [30 + i for i in range(12) if i not in (3, 5, 7)]
    assert result.ids[3] == "phantom_val_000004"
    assert result.labels.tolist() == [i % 2 for i in range(12) if i not in (3, 5, 7)]


def test_blank_images_without_a_twin_stay(archive):
    blank = pd.DataFrame(
        {"image_id": ["phantom_val_000000"], "split": ["val"], "twin": [None], "twin_split": [None]}
    )
    assert len(reference_images(archive, blank, 8).ids) == 12


def test_no_reference_image_is_an_error(archive):
    with pytest.raises(PipelineError, match=r"faults\.near_duplicate_cosine"):
        reference_images(archive, faults(*(("val", i, "test", 0) for i in range(12))), 8)


def test_control_images_are_neither_in_the_subset_nor_duplicates(archive):
    subset = {f"phantom_train_{i:06d}" for i in range(10)}
    duplicates = {"phantom_train_000012", "phantom_train_000013", "phantom_train_000015"}
    table = faults(("train", 12, "val", 0), ("train", 13, "train", 20), ("train", 15, "test", 1))
    result = control_images(archive, table, subset, (5, 50), 0, 8)
    assert not {*result.ids} & {*subset, *duplicates}
    assert np.bincount(result.labels).tolist() == [5, 8]
    assert [int(name[-6:]) for name in result.ids] == levels(result)
    assert levels(result) != levels(control_images(archive, table, subset, (5, 50), 1, 8))


def test_subset_has_its_true_labels_and_those_of_its_captions(tmp_path):
    rows = [
        {"file_name": f"images/{i}.png", "image_id": f"id{i}", "label": "b", "ground_truth": "ab"[i]}
        for i in range(2)
    ]
    for i in range(2):
        write_png(tmp_path / f"images/{i}.png", np.full((4, 4), i + 7, np.uint8))
    write_rows(tmp_path / "metadata.jsonl", rows)
    subset, caption_labels = subset_images(tmp_path, ("a", "b"), 8)
    assert subset.images.shape == (2, 8, 8)
    assert levels(subset) == [7, 8]
    assert subset.ids == ["id0", "id1"]
    assert (subset.labels.tolist(), caption_labels.tolist()) == ([0, 1], [1, 1])


def test_unseen_images_are_all_of_test(archive):
    assert levels(unseen_images(archive, 16)) == list(range(42, 51))
