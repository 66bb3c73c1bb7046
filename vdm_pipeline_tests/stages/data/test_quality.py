"""Faults planted in an archive are found, and nothing else is."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vdm_pipeline.settings import Data, Faults
from vdm_pipeline.stages.data.archive import Archive, Split, read_archive
from vdm_pipeline.stages.data.near_duplicates import Whitening, close_pairs
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.data.quality import count_faults, find_faults
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import EMBEDDED

REAL = Path(os.environ.get("VDM_REAL_DATA") or "none")
NAMES = ("normal", "pneumonia")


def embedder(archive: Archive):
    labeller = ZeroShot(EMBEDDED / "clip", torch.device("cpu"))
    return lambda split: [labeller.embed(archive.splits[split].images)]


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Phantoms; train 5 repeats 3, 6 stands in val, 7 in test as well; 8 is 9 with noise; 10 is blank, 11 burnt out."""
    films = render(4, np.arange(200), np.arange(200) % 2 == 1, 64)
    train, val, test = films[:140].copy(), films[140:170].copy(), films[170:].copy()
    train[5], train[6], train[7], test[1] = train[3], val[2], test[4], test[0]
    noise = np.random.default_rng(0).normal(0, 2, train[9].shape)
    train[8] = np.clip(train[9] + noise, 0, 255).astype(np.uint8)
    train[10], train[11] = 77, np.where(train[11] > 80, 255, 0)
    splits = {
        name: Split.of(images, np.arange(len(images)) % 2)
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


def test_limits_are_those_of_the_profile(archive):
    strict = Faults(blank_std=0, saturated_share=1, near_duplicate_cosine=1)
    assert set(find_faults(archive, embedder(archive), strict)["fault"]) == {"duplicate", "saturated"}


def test_close_pairs_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr("vdm_pipeline.stages.near_duplicates.BLOCK", 7)
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = {(i, j) for i in range(40) for j in range(i) if float(vectors[i] @ vectors[j]) >= 0.9}
    pairs = list(close_pairs(vectors, 0.9))
    assert {(i, j) for i, j, _ in pairs} == expected
    assert len(pairs) == len(expected) > 5


def test_whitened_vectors_are_uncorrelated_and_blind_to_the_common_direction():
    rng = np.random.default_rng(1)
    embeddings = (rng.standard_normal((500, 6)) * [5, 1, 0.1, 0.1, 0.1, 0] + 40).astype(np.float32)
    whiten = Whitening.fit(embeddings)
    assert whiten.turn.shape == (6, 5)
    turned = (embeddings - whiten.mean) @ whiten.turn
    np.testing.assert_allclose(turned.T @ turned, np.eye(5), atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(whiten(embeddings), axis=1), 1, atol=1e-5)


@pytest.mark.real_data
@pytest.mark.skipif(
    not REAL.is_file(), reason="no real archive; set VDM_REAL_DATA to a pneumoniamnist.npz of 28 pixels"
)
def test_the_real_archives_duplicates():
    archive = read_archive(REAL, Data(dataset="pneumoniamnist", size=28, source="file"), NAMES)
    table = find_faults(archive, embedder(archive), Faults())
    assert count_faults(table, archive, NAMES)["faults"]["duplicate"] == {
        "train": 18,
        "test": 3,
        "train also in val": 8,
    }
