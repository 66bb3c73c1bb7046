"""Copies of an `.npz` that have not ended, as `cp`, `rsync --inplace`, browsers and NFS write them."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.io import zip_copy
from vdm_pipeline.io.zip_copy import missing_part


def npz(seed: int, save: Callable[..., None] = np.savez) -> bytes:
    """An archive of two arrays with other values for each seed, of the same size if not compressed."""
    rng, buffer = np.random.default_rng(seed), io.BytesIO()
    save(buffer, images=rng.integers(0, 60, (40, 8, 8), np.uint8), labels=rng.integers(0, 9, 99, np.uint8))
    return buffer.getvalue()


def arrays(content: bytes) -> dict[str, bytes]:
    """The arrays' bytes by name, as NumPy reads them."""
    with np.load(io.BytesIO(content)) as archive:
        return {name: archive[name].tobytes() for name in archive.files}


COPIES: dict[str, Callable[[bytes, bytes, int], bytes]] = {
    "growing": lambda old, new, n: new[:n],
    "reserved": lambda old, new, n: new[:n] + bytes(len(new) - n),
    "reserved, from the end": lambda old, new, n: bytes(len(new) - n) + new[len(new) - n :],
    "over the old": lambda old, new, n: new[:n] + old[n:],
    "over the old, from the end": lambda old, new, n: old[: len(new) - n] + new[len(new) - n :],
}
"""What a copy of ``new`` over ``old`` looks like after ``n`` bytes; reserved bytes are 0, as by fallocate."""


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("copy", COPIES)
def test_no_part_of_a_copy_passes_and_the_whole_does(tmp_path: Path, copy: str, save: Callable[..., None]):
    """A file passes only if NumPy reads all arrays of one archive from it."""
    old, new, path = npz(0, save), npz(1, save), tmp_path / "a.npz"
    wholes, found = [arrays(old), arrays(new)], 0
    for n in {*range(0, len(new), 20), *range(len(new) - 150, len(new))}:  # each byte of the directory
        content = COPIES[copy](old, new, n)
        path.write_bytes(content)
        if missing_part(path):
            found += 1
        else:
            assert arrays(content) in wholes, f"{n} of {len(new)} bytes"
    assert found > 100
    path.write_bytes(new)
    assert missing_part(path) is None


def test_one_byte_that_is_not_written_yet_is_found(tmp_path):
    """A download in parts may leave any byte for last."""
    path, whole = tmp_path / "a.npz", npz(1)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        start = archive.getinfo("labels.npy").header_offset
    position = start + 200
    assert whole[position]
    path.write_bytes(whole[:position] + b"\0" + whole[position + 1 :])
    assert missing_part(path) == "the checksum of labels.npy is wrong"


@pytest.mark.parametrize("content", [b"<html>not a zip</html>", b"\x93NUMPY\x01\x00", b"PK\x07\x08 spanned"])
def test_a_file_that_no_copy_turns_into_a_zip_is_not_waited_for(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert missing_part(tmp_path / "a.npz") is None


@pytest.mark.parametrize("content", [b"", b"P", b"PK\x03", bytes(3), bytes(5000), b"PK\x03\x04 and no more"])
def test_a_copy_that_just_began_is_waited_for(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert missing_part(tmp_path / "a.npz") == "its end or a part of it is missing"


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    path, reads = tmp_path / "a.npz", []
    path.write_bytes(npz(0))
    monkeypatch.setattr("vdm_pipeline.io.hashing.RECENT_CHANGE_S", 0.0)
    monkeypatch.setattr(zip_copy, "_missing_part", lambda path: reads.append(path))
    for _ in range(3):
        missing_part(path)
    assert len(reads) == 1
