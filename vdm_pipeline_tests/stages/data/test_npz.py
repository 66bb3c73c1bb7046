"""The file layer of `.npz`: what is written comes back, and a bad file is refused before it costs anything."""

import io
import os
import random
import resource
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.stages.data import npz
from vdm_pipeline.stages.data.npz import open_npz, read_comment, write_npz

ARRAYS = {
    "images": np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
    "labels": np.array([[0], [1], [1]], np.int16),
}
KEYS = tuple(ARRAYS)


def accept(headers):
    """No fault in any header."""
    return None


def read(path: Path):
    """Read the two arrays of these tests."""
    file = open_npz(path, KEYS, accept, "mend it")
    return {key: file.array(key) for key in KEYS}


def members(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip of raw members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def npy(array: np.ndarray, **options) -> bytes:
    """The bytes of a `.npy` file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def header(shape: str, descr: str = "|u1") -> bytes:
    """A version 1.0 header of any claim."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_what_is_written_comes_back_and_numpy_reads_it(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, ARRAYS, comment="of tests")
    for found in (read(path), dict(np.load(path))):
        assert list(found) == list(ARRAYS)
        for key, array in ARRAYS.items():
            assert found[key].dtype == array.dtype
            np.testing.assert_array_equal(found[key], array)
    assert read_comment(path) == "of tests"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_read_also_in_fortran_order(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, images=np.asfortranarray(ARRAYS["images"]), labels=ARRAYS["labels"].astype(">i8"))
    found = read(path)
    np.testing.assert_array_equal(found["images"], ARRAYS["images"])
    np.testing.assert_array_equal(found["labels"], ARRAYS["labels"])
    assert found["images"].flags.c_contiguous


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_rows_are_the_array_in_pieces(tmp_path, save, count):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4), np.uint8)
    save(tmp_path / "a.npz", images=images, labels=np.asfortranarray(images[:, :, 0]))
    file = open_npz(tmp_path / "a.npz", KEYS, accept, "mend it")
    for key, whole in (("images", images), ("labels", images[:, :, 0])):
        pieces = list(file.rows(key, count))
        assert [len(piece) for piece in pieces[:-1]] == [count] * (len(pieces) - 1)
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_rows_do_not_hold_the_array_in_memory(tmp_path):
    write_npz(
        tmp_path / "a.npz", {"images": np.zeros((300, 2**20), np.uint8), "labels": np.zeros(3, np.uint8)}
    )
    file = open_npz(tmp_path / "a.npz", KEYS, accept, "mend it")
    tracemalloc.start()
    assert sum(len(piece) for piece in file.rows("images", 4)) == 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_damage_is_found_at_the_end_of_the_rows(tmp_path):
    path = members(tmp_path / "a.npz", GOOD, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.find(ARRAYS["images"].tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"is damaged .*CRC"):
        list(open_npz(path, KEYS, accept, "mend it").rows("images", 2))


def test_the_same_arrays_give_the_same_bytes_whatever_the_time(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz", ARRAYS, comment="c")
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_npz(tmp_path / "b.npz", ARRAYS, comment="c")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, ARRAYS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="pickle"):
        write_npz(path, {"images": ARRAYS["images"], "labels": np.array([{}], object)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


def test_digest_is_the_published_one(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert digest(tmp_path / "f", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert (
        digest(tmp_path / "f", "sha256") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_comment_that_cannot_be_had_is_empty(tmp_path):
    (tmp_path / "f").write_bytes(b"no zip")
    assert read_comment(tmp_path / "f") == read_comment(tmp_path / "missing") == ""


def encrypted(path: Path) -> Path:
    """Set the encryption bit of every member, in the local headers and in the directory."""
    data = bytearray(members(path, {f"{key}.npy": npy(array) for key, array in ARRAYS.items()}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    path.write_bytes(data)
    return path


def overlapping(path: Path) -> Path:
    """Let the directory claim the same long stretch of the file for both members."""
    big = npy(np.random.default_rng(0).integers(0, 256, (9, 99, 99), np.uint8))
    data = members(
        path, {"images.npy": big, "labels.npy": npy(ARRAYS["labels"])}, zipfile.ZIP_STORED
    ).read_bytes()
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    entry = (
        data[second : second + 16]
        + data[first + 16 : first + 28]
        + data[second + 28 : second + 42]
        + data[first + 42 : first + 46]
    )
    path.write_bytes(data[:second] + entry + data[second + 46 :])
    return path


GOOD = {f"{key}.npy": npy(array) for key, array in ARRAYS.items()}
BAD = {
    "another method": (lambda p: members(p, GOOD, zipfile.ZIP_LZMA), "compressed in a way"),
    "encrypted": (encrypted, "is encrypted"),
    "overlapping": (overlapping, "overlap"),
    "name too many": (
        lambda p: members(p, GOOD | {"../evil.npy": b""}),
        r"holds '\.\./evil', which does not belong",
    ),
    "name missing": (lambda p: members(p, {"images.npy": GOOD["images.npy"]}), "array 'labels' is missing"),
    "no npy": (lambda p: members(p, GOOD | {"labels.npy": b"x" * 99}), "labels is no plain .npy array"),
    "header of code": (
        lambda p: members(p, GOOD | {"labels.npy": header("__import__('os').abort()")}),
        "labels is no plain",
    ),
    "version 2": (
        lambda p: members(p, GOOD | {"labels.npy": npy(ARRAYS["labels"], version=(2, 0))}),
        "labels is no plain",
    ),
    "objects": (
        lambda p: members(p, GOOD | {"labels.npy": npy(np.array([{}, 1], object))}),
        "labels holds pickled",
    ),
    "claims more": (
        lambda p: members(p, GOOD | {"labels.npy": header("(9, 9)") + b"123"}),
        r"labels claims \[9, 9\]",
    ),
    "claims less": (
        lambda p: members(p, GOOD | {"labels.npy": header("(2,)") + b"123"}),
        r"labels claims \[2\]",
    ),
    "negative": (
        lambda p: members(p, GOOD | {"labels.npy": header("(-1, -3)") + b"123"}),
        r"labels claims \[-1, -3\]",
    ),
    "past 64 bits": (
        lambda p: members(p, GOOD | {"labels.npy": header(f"({2**32}, {2**32})")}),
        "labels claims",
    ),
}


@pytest.mark.parametrize("make, fault", BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_with_one_sentence(tmp_path, make, fault):
    path = make(tmp_path / "bad.npz")
    with pytest.raises(ArchiveError, match=fault) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; mend it.")
    assert "\n" not in message


def test_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "bad.npz"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for name in ("images.npy", "labels.npy", "labels.npy"):
            archive.writestr(name, GOOD[name])
    with pytest.raises(ArchiveError, match="a name stands in it twice"):
        read(path)


def test_the_cap_counts_all_arrays_together(tmp_path, monkeypatch):
    path = members(tmp_path / "a.npz", GOOD)
    monkeypatch.setattr(npz, "MAX_BYTES", 48 + 6)
    read(path)
    monkeypatch.setattr(npz, "MAX_BYTES", 48 + 5)
    with pytest.raises(ArchiveError, match="would take 54 bytes, more than the 53 allowed"):
        read(path)


def test_a_fault_in_the_headers_is_found_before_any_array_is_read(tmp_path, monkeypatch):
    path = members(tmp_path / "a.npz", GOOD)
    monkeypatch.setattr(npz.Npz, "_pieces", lambda *_: pytest.fail("an array was read"))
    with pytest.raises(ArchiveError, match="images is too round"):
        open_npz(
            path,
            KEYS,
            lambda headers: "images is too round" if headers["images"].shape == (3, 4, 4) else None,
            "mend it",
        )


def test_a_real_bomb_is_refused_without_its_memory(tmp_path):
    path, peak = tmp_path / "bomb.npz", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            file.write(header(f"({300 * 2**20},)"))
            for _ in range(300):
                file.write(bytes(2**20))
        archive.writestr("labels.npy", GOOD["labels.npy"])
    assert path.stat().st_size < 2**20
    with pytest.raises(ArchiveError, match="not wanted"):
        open_npz(
            path, KEYS, lambda headers: "not wanted" if headers["images"].nbytes > 2**20 else None, "mend it"
        )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 * 1024  # KiB


def test_any_damage_is_a_sentence_never_another_exception_nor_wrong_pixels(tmp_path):
    rng, path = random.Random(0), tmp_path / "a.npz"
    whole = members(path, GOOD).read_bytes()
    cuts = [whole[:n] for n in range(0, len(whole), 7)]
    flips = []
    for _ in range(400):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        flips.append(bytes(data))
    refused = 0
    for data in cuts + flips:
        path.write_bytes(data)
        try:
            found = read(path)
        except ArchiveError:
            refused += 1
        else:
            for key, array in ARRAYS.items():
                np.testing.assert_array_equal(found[key], array)
    assert refused > len(cuts) + 200


def test_what_cannot_be_opened_is_a_sentence(tmp_path):
    with pytest.raises(ArchiveError, match=r"there is no such file; mend it\."):
        read(tmp_path / "missing.npz")
    with pytest.raises(ArchiveError, match=r"there is no such file; mend it\."):
        read(tmp_path)
