"""Bad `.npz` files are rejected with one sentence, before they cost memory."""

import random
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.stages.data import npz, npz_members
from vdm_pipeline.stages.data.npz import open_npz
from vdm_pipeline.stages.data.npz_members import Problem
from vdm_pipeline_tests.stages.data.npz_files import ARRAYS, HINT, KEYS, MEMBERS, accept, npy, read, write_zip


def header(shape: str, descr: str = "|u1") -> bytes:
    """A header of version 1.0 that declares any shape."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def encrypted(path: Path) -> Path:
    """Set the encryption bit of every member, in the local headers and in the directory."""
    data = bytearray(write_zip(path, MEMBERS).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 1)
    path.write_bytes(data)
    return path


def overlapping(path: Path) -> Path:
    """The directory gives both members the same range of the file."""
    images = npy(np.random.default_rng(0).integers(0, 256, (9, 99, 99), np.uint8))
    members = {"images.npy": images, "labels.npy": MEMBERS["labels.npy"]}
    data = write_zip(path, members, zipfile.ZIP_STORED).read_bytes()
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    entry = (
        data[second : second + 16]
        + data[first + 16 : first + 28]
        + data[second + 28 : second + 42]
        + data[first + 42 : first + 46]
    )
    path.write_bytes(data[:second] + entry + data[second + 46 :])
    return path


def labels(data: bytes) -> dict[str, bytes]:
    """Good images, and other bytes as ``labels.npy``."""
    return MEMBERS | {"labels.npy": data}


FILES = {
    "another method": (lambda path: write_zip(path, MEMBERS, zipfile.ZIP_LZMA), "compressed with a method"),
    "encrypted": (encrypted, "is encrypted"),
    "overlapping": (overlapping, "overlap"),
}
MEMBERS_AND_PROBLEMS = {
    "extra name": (MEMBERS | {"../evil.npy": b""}, r"unexpected array '\.\./evil'"),
    "missing name": ({"images.npy": MEMBERS["images.npy"]}, "array 'labels' is missing"),
    "no npy": (labels(b"x" * 99), "labels is not a plain .npy array"),
    "header of code": (labels(header("__import__('os').abort()")), "labels is not a plain"),
    "version 2": (labels(npy(ARRAYS["labels"], version=(2, 0))), "labels is not a plain"),
    "objects": (labels(npy(np.array([{}, 1], object))), "labels contains pickled"),
    "declares more": (labels(header("(9, 9)") + b"123"), r"labels declares \[9, 9\]"),
    "declares less": (labels(header("(2,)") + b"123"), r"labels declares \[2\]"),
    "negative": (labels(header("(-1, -3)") + b"123"), r"labels declares \[-1, -3\]"),
    "past 64 bits": (labels(header(f"({2**32}, {2**32})")), "labels declares"),
}
BAD = FILES | {
    title: (lambda path, members=members: write_zip(path, members), problem)
    for title, (members, problem) in MEMBERS_AND_PROBLEMS.items()
}


@pytest.mark.parametrize(("write", "problem"), BAD.values(), ids=BAD)
def test_bad_file_is_rejected_with_one_sentence(tmp_path, write, problem):
    path = write(tmp_path / "bad.npz")
    with pytest.raises(ArchiveError, match=problem) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(f"; {HINT}.")
    assert "\n" not in message


def test_repeated_name_is_rejected(tmp_path):
    path = tmp_path / "bad.npz"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for name in ("images.npy", "labels.npy", "labels.npy"):
            archive.writestr(name, MEMBERS[name])
    with pytest.raises(ArchiveError, match="two arrays of the same name"):
        read(path)


def test_memory_limit_counts_all_arrays_together(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.npz", MEMBERS)
    monkeypatch.setattr(npz_members, "MAX_BYTES", 48 + 6)
    read(path)
    monkeypatch.setattr(npz_members, "MAX_BYTES", 48 + 5)
    with pytest.raises(ArchiveError, match="need 54 bytes of memory, more than the allowed 53"):
        read(path)


def test_headers_are_checked_before_any_array_is_read(tmp_path, monkeypatch):
    def reject(headers):
        return Problem("images is too round") if headers["images"].shape == (3, 4, 4) else None

    path = write_zip(tmp_path / "a.npz", MEMBERS)
    monkeypatch.setattr(npz.Npz, "_chunks", lambda *_: pytest.fail("an array was read"))
    with pytest.raises(ArchiveError, match="images is too round"):
        open_npz(path, KEYS, reject, HINT)


def test_zip_bomb_is_rejected_without_its_memory(tmp_path):
    def reject(headers):
        return Problem("too large") if headers["images"].nbytes > 2**20 else None

    path, peak = tmp_path / "bomb.npz", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            file.write(header(f"({300 * 2**20},)"))
            for _ in range(300):
                file.write(bytes(2**20))
        archive.writestr("labels.npy", MEMBERS["labels.npy"])
    assert path.stat().st_size < 2**20
    with pytest.raises(ArchiveError, match="too large"):
        open_npz(path, KEYS, reject, HINT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 * 1024  # KiB


def test_damage_gives_the_right_error_and_never_wrong_pixels(tmp_path):
    rng, path = random.Random(0), tmp_path / "a.npz"
    content = write_zip(path, MEMBERS).read_bytes()
    cut = [content[:n] for n in range(0, len(content), 7)]
    flipped = []
    for _ in range(400):
        data = bytearray(content)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(data))
    rejected = 0
    for data in cut + flipped:
        path.write_bytes(data)
        try:
            arrays = read(path)
        except ArchiveError:
            rejected += 1
        else:
            for key, array in ARRAYS.items():
                np.testing.assert_array_equal(arrays[key], array)
    assert rejected > len(cut) + 200


def test_damage_is_found_at_the_end_of_the_rows(tmp_path):
    path = write_zip(tmp_path / "a.npz", MEMBERS, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.find(ARRAYS["images"].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"is damaged .*CRC"):
        list(open_npz(path, KEYS, accept, HINT).rows("images", 2))


def test_missing_file(tmp_path):
    with pytest.raises(ArchiveError, match=f"there is no such file; {HINT}"):
        read(tmp_path / "missing.npz")
    with pytest.raises(ArchiveError, match=f"there is no such file; {HINT}"):
        read(tmp_path)
