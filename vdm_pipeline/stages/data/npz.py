"""Read and write `.npz` files safely: a bad file gives one clear error and cannot exhaust the memory.

A `.npz` is a zip of `.npy` members. The declarations of the zip and of the `.npy` headers are checked before
any array is read.
"""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io.atomic import atomic_file
from vdm_pipeline.io.zip_copy import may_become_zip

MAX_BYTES = 4 * 2**30
"""Limit for the arrays of one file in memory."""
MAX_RATIO = 1032
"""Largest compression ratio of deflate; a member that declares more is a zip bomb."""
CHUNK = 2**20
READ_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, MemoryError)
"""What zipfile and NumPy raise for a bad file."""


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


class _NpzError(Exception):
    """What is wrong with the file, without its name and the hint."""


@dataclass(frozen=True)
class Npz:
    """A file with correct names, sizes and headers. Its arrays are read on demand."""

    path: Path
    headers: Mapping[str, Header]
    hint: str

    def array(self, key: str) -> NDArray:
        """The whole array ``key``. Raises `ArchiveError` if the file is damaged there."""
        header = self.headers[key]
        data = np.empty(header.nbytes, np.uint8)
        start = 0
        for chunk in self._chunks(key, CHUNK):
            data[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
            start += len(chunk)
        order: Literal["F", "C"] = "F" if header.fortran else "C"
        return np.ascontiguousarray(data.view(header.dtype).reshape(header.shape, order=order))

    def rows(self, key: str, batch_size: int) -> Iterator[NDArray]:
        """The array in batches of rows. Its memory does not grow with their number, except in Fortran order.

        Raises `ArchiveError` if the file is damaged. A wrong checksum is found only at the end.
        """
        header = self.headers[key]
        if header.fortran:
            array = self.array(key)
            for start in range(0, len(array), batch_size):
                yield array[start : start + batch_size]
            return
        row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
        for chunk in self._chunks(key, batch_size * row_bytes):
            yield np.frombuffer(bytearray(chunk), header.dtype).reshape(-1, *header.shape[1:])

    def _chunks(self, key: str, size: int) -> Iterator[bytes]:
        """The array's bytes, ``size`` at a time. At the end zipfile checks the CRC."""
        header = self.headers[key]
        with (
            _clear_errors(self.path, self.hint),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{key}.npy") as file,
        ):
            file.read(header.offset)
            remaining = header.nbytes
            while remaining:
                chunk = _read(file, min(size, remaining))
                if not chunk:
                    raise _NpzError(f"{key}.npy ends too early")
                remaining -= len(chunk)
                yield chunk
            file.read(1)


def _read(file: IO[bytes], size: int) -> bytes:
    """``size`` bytes, or all that are left. A single read of a zip member may return fewer."""
    parts, remaining = [], size
    while remaining:
        part = file.read(min(remaining, CHUNK))
        if not part:
            break
        parts.append(part)
        remaining -= len(part)
    return b"".join(parts)


def open_npz(
    path: Path, keys: Sequence[str], check: Callable[[Mapping[str, Header]], str | None], hint: str
) -> Npz:
    """Check a file that must have the arrays ``keys`` and no others.

    ``check`` gets the headers before any array is read, and returns what is wrong with them, or None. Raises
    `ArchiveError` with the file, what is wrong with it, and ``hint``.
    """
    with _clear_errors(path, hint), zipfile.ZipFile(path) as archive:
        members = _members(archive, keys, path.stat().st_size)
        headers = {key: _header(archive, key, info) for key, info in members.items()}
        problem = _size_error(headers) or check(headers)
        if problem:
            raise _NpzError(problem)
    return Npz(path, headers, hint)


@contextmanager
def _clear_errors(path: Path, hint: str) -> Iterator[None]:
    """Raise `ArchiveError` instead of all that reading a bad file may raise."""
    try:
        yield
    except _NpzError as error:
        raise ArchiveError(f"{path}: {error}; {hint}.") from None
    except READ_ERRORS as error:
        raise ArchiveError(f"{path}: {_describe(path, error)}; {hint}.") from None


def write_npz(path: Path, arrays: Mapping[str, NDArray], comment: str = "") -> None:
    """Write ``arrays`` atomically. The same arrays and zip comment always give the same bytes.

    The members are not compressed, because versions of zlib differ in their output.
    """
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment.encode()
        for key, array in arrays.items():
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), version=(1, 0), allow_pickle=False)


def read_comment(path: Path) -> str:
    """The comment of a zip file, or '' if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode(errors="replace")
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):  # last: unknown zip version
        return ""


def _members(archive: zipfile.ZipFile, keys: Sequence[str], file_size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by key, if their names and declared sizes are correct."""
    members = archive.infolist()
    _check_names([member.filename for member in members], {f"{key}.npy" for key in keys})
    for member in members:
        _check_member(member)
    if sum(member.compress_size for member in members) > file_size:
        raise _NpzError("its members overlap or are longer than the file (a zip bomb, or a truncated file)")
    return {member.filename.removesuffix(".npy"): member for member in members}


def _check_names(names: list[str], expected: set[str]) -> None:
    missing, extra = expected - set(names), set(names) - expected
    if missing:
        raise _NpzError(f"the array {_format(missing)} is missing")
    if extra:
        raise _NpzError(f"it has the unexpected array {_format(extra)}")
    if len(names) != len(expected):
        raise _NpzError("it has two arrays of the same name")


def _check_member(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 0x1:
        raise _NpzError(f"{member.filename} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _NpzError(f"{member.filename} is compressed with a method that NumPy does not use")
    if member.file_size > MAX_RATIO * member.compress_size:
        raise _NpzError(
            f"{member.filename} declares {member.file_size} bytes in {member.compress_size} (a zip bomb)"
        )


def _format(names: set[str]) -> str:
    shown = ", ".join(repr(name[:40].removesuffix(".npy")) for name in sorted(names)[:3])
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
            raise _NpzError(f"{key} is not a plain .npy array") from None
    if header.dtype.hasobject:
        raise _NpzError(f"{key} contains pickled Python objects, which are never loaded")
    if min(header.shape, default=0) < 0 or header.offset + header.nbytes != member.file_size:
        raise _NpzError(
            f"{key} declares {list(header.shape)} of {header.dtype}, {header.nbytes} bytes, "
            f"but the zip declares {member.file_size}"
        )
    return header


def _size_error(headers: Mapping[str, Header]) -> str | None:
    total = sum(header.nbytes for header in headers.values())
    if total <= MAX_BYTES:
        return None
    return f"its arrays need {total} bytes of memory, more than the allowed {MAX_BYTES}"


def _describe(path: Path, error: Exception) -> str:
    if not path.is_file():
        return "there is no such file"
    if isinstance(error, OSError | MemoryError):
        return f"it cannot be read ({error.__class__.__name__}: {error})"
    if zipfile.is_zipfile(path):
        return f"it is damaged ({error}), or still being copied"
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "it is an empty file"
    if may_become_zip(start):
        return "it is cut short, or still being copied"
    return "it is not an .npz file (a zip)"
