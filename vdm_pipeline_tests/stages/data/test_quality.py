"""Faults planted in an archive are found, and no others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Data, Faults
from vdm_pipeline.stages.data.archive import Archive, Split, read_archive
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.data.quality import (
    EmbeddingReader,
    blank_mask,
    count_faults,
    find_faults,
    saturated_mask,
)
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.planted import add_noise
from vdm_pipeline_tests.real_data import REAL_ARCHIVE, needs_real_archive
from vdm_pipeline_tests.stages.data.archives import NAMES


def embedder(archive: Archive) -> EmbeddingReader:
    labeller = ZeroShot(EMBEDDED / "clip", torch.device("cpu"))
    return lambda split: [labeller.embed(archive.splits[split].images)]


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Phantoms with planted faults.

    Train 5 repeats train 3, train 6 is in val, train 7 in test, and test 1 repeats test 0. Train 8 is train 9
    with noise, train 10 is blank, and train 11 saturated.
    """
    films = render(4, np.arange(200), np.arange(200) % 2 == 1, 64)
    train, val, test = films[:140].copy(), films[140:170].copy(), films[170:].copy()
    train[5], train[6], train[7], test[1] = train[3], val[2], test[4], test[0]
    train[8] = add_noise(train[9], seed=0, std=2)
    train[10], train[11] = 77, np.where(train[11] > 80, 255, 0)
    splits = {
        name: Split.from_arrays(images, np.arange(len(images)) % 2)
        for name, images in (("train", train), ("val", val), ("test", test))
    }
    return Archive("thing", 64, splits, Path("thing.npz"), "", "", "unverified")


def test_planted_faults_are_found(archive):
    table = find_faults(archive, embedder(archive), Faults())
    found = {
        (row.fault, row.image_id[6:], row.twin[6:] if isinstance(row.twin, str) else None)
        for row in table.itertuples()
    }
    assert {row for row in found if row[0] != "near_duplicate"} == {
        ("blank", "train_000010", None),
        ("saturated", "train_000011", None),
        ("duplicate", "train_000005", "train_000003"),
        ("duplicate", "train_000006", "val_000002"),
        ("duplicate", "train_000007", "test_000004"),
        ("duplicate", "test_000001", "test_000000"),
    }
    assert ("near_duplicate", "train_000009", "train_000008") in found
    counts = count_faults(table, archive, NAMES)
    assert counts["faults"]["duplicate"] == {
        "train": 1,
        "train also in val": 1,
        "train also in test": 1,
        "test": 1,
    }
    assert counts["classes"]["val"] == {"normal": 15, "pneumonia": 15}


def test_image_can_be_a_duplicate_in_its_split_and_in_another(archive):
    images = np.stack([archive.splits["test"].images[3]] * 3)
    splits = {
        name: Split.from_arrays(images[:n], np.zeros(n, int))
        for name, n in (("train", 2), ("val", 0), ("test", 1))
    }
    small = Archive("thing", 64, splits, Path("thing.npz"), "", "", "unverified")
    table = find_faults(small, lambda split: [np.eye(4, dtype=np.float32)[: len(splits[split])]], Faults())
    rows = {(row.image_id, row.twin) for row in table[table["fault"] == "duplicate"].itertuples()}
    assert rows == {
        ("thing_train_000000", "thing_test_000000"),
        ("thing_train_000001", "thing_test_000000"),
        ("thing_train_000001", "thing_train_000000"),
    }


def test_limits_are_those_of_the_profile(archive):
    strict = Faults(blank_std=0, saturated_share=1, near_duplicate_cosine=1)
    assert set(find_faults(archive, embedder(archive), strict)["fault"]) == {"duplicate", "saturated"}


def test_every_image_needs_an_embedding(archive):
    with pytest.raises(
        PipelineError, match="Asset image_embeddings has 29 embeddings for the 30 images of test"
    ):
        find_faults(archive, lambda split: [np.zeros((29, 4), np.float32)], Faults())


def test_blank_images_by_the_channel_with_the_largest_std():
    grey = np.zeros((2, 4, 4), np.uint8)
    grey[1, :2] = 20
    mask, std = blank_mask(grey, Faults(blank_std=10))
    assert (mask.tolist(), std.tolist()) == ([True, False], [0.0, 10.0])
    colour = np.zeros((1, 4, 4, 3), np.uint8)
    colour[0, :2, :, 1] = 20
    mask, std = blank_mask(colour, Faults(blank_std=11))
    assert (mask.tolist(), std.tolist()) == ([True], [10.0])


def test_saturated_images_by_their_share_of_extreme_values():
    images = np.full((3, 4, 4), 128, np.uint8)
    images[1, :2], images[2, :2], images[2, 2] = 255, 0, 255
    mask, share = saturated_mask(images, Faults(saturated_share=0.75))
    assert (mask.tolist(), share.tolist()) == ([False, False, True], [0.0, 0.5, 0.75])


@pytest.mark.real_data
@needs_real_archive
def test_duplicates_of_the_real_archive():
    archive = read_archive(REAL_ARCHIVE, Data(dataset="pneumoniamnist", size=28, source="file"), NAMES)
    table = find_faults(archive, embedder(archive), Faults())
    assert count_faults(table, archive, NAMES)["faults"]["duplicate"] == {
        "train": 18,
        "test": 3,
        "train also in val": 8,
    }
