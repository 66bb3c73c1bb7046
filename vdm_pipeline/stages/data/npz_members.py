"""What an `.npz` file declares: the names and sizes in its zip, and the headers of its arrays."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

MAX_BYTES = 4 * 2**30
"""Limit for the arrays of one file in memory."""
MAX_RATIO = 1032
"""Largest compression ratio of deflate; a member that declares more is a zip bomb."""
SAVE_WITH_NUMPY = "save the file with numpy.savez_compressed"


class Header(NamedTuple):
    """Header of a `.npy` member; its data starts at ``offset``, in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the array in memory, bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Problem(NamedTuple):
    """What is wrong with a file, and how its author can fix it; empty if only another file helps."""

    sentence: str
    fix: str = ""


class NpzError(Exception):
    """A `Problem`, raised."""

    def __init__(self, sentence: str, fix: str = "") -> None:
        super().__init__(sentence)
        self.fix = fix


def read_headers(archive: zipfile.ZipFile, keys: Sequence[str], file_size: int) -> dict[str, Header]:
    """The headers by array; raises `NpzError` unless names and sizes are correct."""
    members = _members(archive, keys, file_size)
    headers = {key: _header(archive, key, info) for key, info in members.items()}
    _check_size(headers)
    return headers


def _members(archive: zipfile.ZipFile, keys: Sequence[str], file_size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by key, if their names and declared sizes are correct."""
    members = archive.infolist()
    _check_names([member.filename for member in members], {f"{key}.npy" for key in keys})
    for member in members:
        _check_member(member)
    if sum(member.compress_size for member in members) > file_size:
        raise NpzError("its members overlap or are longer than the file (a zip bomb, or a truncated file)")
    return {member.filename.removesuffix(".npy"): member for member in members}


def _check_names(names: list[str], expected: set[str]) -> None:
    missing, extra = expected - set(names), set(names) - expected
    if missing:
        verb, fix = ("is", "add it") if len(missing) == 1 else ("are", "add them")
        raise NpzError(f"the {_format(missing)} {verb} missing", fix if missing < expected else "")
    if extra:
        raise NpzError(
            f"it has the unexpected {_format(extra)}", "remove it" if len(extra) == 1 else "remove them"
        )
    if len(names) != len(expected):
        raise NpzError("it has two arrays of the same name", "remove one of them")


def _check_member(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 0x1:
        raise NpzError(f"{member.filename} is encrypted", "save it without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NpzError(
            f"{member.filename} is compressed with a method that NumPy does not use", SAVE_WITH_NUMPY
        )
    if member.file_size > MAX_RATIO * member.compress_size:
        raise NpzError(
            f"{member.filename} declares {member.file_size} bytes in {member.compress_size} (a zip bomb)"
        )


def _format(names: set[str]) -> str:
    """``array 'a'``, or ``arrays 'a', 'b', 'c' and 2 more``."""
    noun = "array" if len(names) == 1 else "arrays"
    shown = f"{noun} " + ", ".join(repr(name[:40].removesuffix(".npy")) for name in sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _header(archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> Header:
    """Parse one header of version 1.0, which has at most 64 KiB. NumPy uses no other for plain arrays."""
    with archive.open(member) as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("version")
            header = Header(*np.lib.format.read_array_header_1_0(file), file.tell())
        except (zipfile.BadZipFile, OSError):
            raise
        except Exception:  # NumPy's parser raises all that Python's tokenizer does
            raise NpzError(f"{key} is not a plain .npy array", SAVE_WITH_NUMPY) from None
    if header.dtype.hasobject:
        raise NpzError(
            f"{key} contains pickled Python objects, which are never loaded", "save an array of integers"
        )
    if min(header.shape, default=0) < 0 or header.offset + header.nbytes != member.file_size:
        raise NpzError(
            f"{key} declares {list(header.shape)} of {header.dtype}, {header.nbytes} bytes, "
            f"but the zip declares {member.file_size}"
        )
    return header


def _check_size(headers: Mapping[str, Header]) -> None:
    total = sum(header.nbytes for header in headers.values())
    if total > MAX_BYTES:
        raise NpzError(
            f"its arrays need {total} bytes of memory, more than the allowed {MAX_BYTES}",
            "use fewer or smaller images",
        )
