"""Write `.npz` files reproducibly, and read them whole or in batches."""

import os
import tracemalloc

import numpy as np
import pytest

from vdm_pipeline.stages.data.npz import open_npz, read_comment, write_npz
from vdm_pipeline_tests.stages.data.npz_files import ARRAYS, HINT, KEYS, accept, read


def test_round_trip_and_numpy_reads_it(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, ARRAYS, comment="of tests")
    for arrays in (read(path), dict(np.load(path))):
        assert list(arrays) == list(ARRAYS)
        for key, array in ARRAYS.items():
            assert arrays[key].dtype == array.dtype
            np.testing.assert_array_equal(arrays[key], array)
    assert read_comment(path) == "of tests"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_also_in_fortran_order(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, images=np.asfortranarray(ARRAYS["images"]), labels=ARRAYS["labels"].astype(">i8"))
    arrays = read(path)
    np.testing.assert_array_equal(arrays["images"], ARRAYS["images"])
    np.testing.assert_array_equal(arrays["labels"], ARRAYS["labels"])
    assert arrays["images"].flags.c_contiguous


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_batches_of_rows_are_the_array(tmp_path, save, batch_size):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4), np.uint8)
    save(tmp_path / "a.npz", images=images, labels=np.asfortranarray(images[:, :, 0]))
    file = open_npz(tmp_path / "a.npz", KEYS, accept, HINT)
    for key, array in (("images", images), ("labels", images[:, :, 0])):
        batches = list(file.rows(key, batch_size))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        np.testing.assert_array_equal(np.concatenate(batches), array)


def test_batches_do_not_hold_the_array_in_memory(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, {"images": np.zeros((300, 2**20), np.uint8), "labels": np.zeros(3, np.uint8)})
    file = open_npz(path, KEYS, accept, HINT)
    tracemalloc.start()
    assert sum(len(batch) for batch in file.rows("images", 4)) == 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_bytes_do_not_depend_on_the_time(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", ARRAYS, comment="c")
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_npz(tmp_path / "b.npz", ARRAYS, comment="c")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_failed_write_keeps_the_old_file_only(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, ARRAYS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="pickle"):
        write_npz(path, {"images": ARRAYS["images"], "labels": np.array([{}], object)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


def test_comment_that_cannot_be_read_is_empty(tmp_path):
    (tmp_path / "f").write_bytes(b"not a zip")
    assert read_comment(tmp_path / "f") == read_comment(tmp_path / "missing") == ""
