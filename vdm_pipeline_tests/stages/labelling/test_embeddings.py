"""Embeddings on disk: in order, resumable by shard, with bounded memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.labelling import embeddings
from vdm_pipeline.stages.labelling.embeddings import embed_archive, read_embeddings
from vdm_pipeline_tests.benchmarks.labelling import noise


@pytest.fixture
def archive(monkeypatch) -> Archive:
    monkeypatch.setattr(embeddings, "SHARD_SIZE", 4)
    images = np.arange(23 * 4, dtype=np.uint8).reshape(23, 2, 2)
    splits = {
        "train": Split.from_arrays(images[:13], np.zeros(13, int)),
        "test": Split.from_arrays(images[13:], np.zeros(10, int)),
    }
    return Archive("thing", 2, splits, Path("thing.npz"), "", "", "unverified")


def ignore(done: int, total: int) -> None:
    """No progress."""


def first_column(images: np.ndarray) -> np.ndarray:
    """Four numbers per image."""
    return images[:, :4, 0].astype(np.float32)


def embed(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)


def test_embeddings_are_read_in_the_archives_order(archive, tmp_path):
    reports: list[tuple[int, int]] = []
    embed_archive(archive, embed, tmp_path, lambda done, total: reports.append((done, total)))
    assert reports[-1] == (23, 23)
    for name, split in archive.splits.items():
        parts = list(read_embeddings(tmp_path, name))
        assert max(len(part) for part in parts) == 4
        np.testing.assert_array_equal(np.concatenate(parts), embed(split.images))


def test_a_killed_run_resumes_at_the_first_missing_shard(archive, tmp_path):
    calls: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return embed(images)

    def killed(images: np.ndarray) -> np.ndarray:
        if len(calls) == 3:
            raise KeyboardInterrupt
        return counted(images)

    with pytest.raises(KeyboardInterrupt):
        embed_archive(archive, killed, tmp_path, ignore)
    files = [f"train_0000{i}.safetensors" for i in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    calls.clear()
    embed_archive(archive, counted, tmp_path, ignore)
    assert calls == [1, 4, 4, 2]
    vectors = np.concatenate(list(read_embeddings(tmp_path, "train")))
    np.testing.assert_array_equal(vectors, embed(archive.splits["train"].images))


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks = []
    for n in (4096, 16384):
        archive = noise(n, 28, tmp_path)
        tracemalloc.start()
        embed_archive(archive, first_column, tmp_path / str(n), ignore)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
