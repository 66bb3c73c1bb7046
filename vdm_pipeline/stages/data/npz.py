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
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io.atomic import atomic_file
from vdm_pipeline.io.zip_copy import may_become_zip
from vdm_pipeline.stages.data.npz_members import Header, NpzError, Problem, read_headers

CHUNK = 2**20
READ_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, MemoryError)
"""What zipfile and NumPy raise for a bad file."""


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
                    raise NpzError(f"{key}.npy ends too early")
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
    path: Path,
    keys: Sequence[str],
    check: Callable[[Mapping[str, Header]], Problem | None],
    hint: str,
    *,
    may_edit: bool = False,
) -> Npz:
    """Check a file that must have the arrays ``keys`` and no others.

    ``check`` gets the headers before any array is read, and returns what is wrong with them, or None. Raises
    `ArchiveError` with the file, what is wrong with it, and ``hint``; or, if the user ``may_edit`` the file,
    how to fix it.
    """
    with _clear_errors(path, hint, may_edit=may_edit), zipfile.ZipFile(path) as archive:
        headers = read_headers(archive, keys, path.stat().st_size)
        problem = check(headers)
        if problem:
            raise NpzError(*problem)
    return Npz(path, headers, hint)


@contextmanager
def _clear_errors(path: Path, hint: str, *, may_edit: bool = False) -> Iterator[None]:
    """Raise `ArchiveError` instead of all that reading a bad file may raise."""
    try:
        yield
    except NpzError as error:
        fix = error.fix if may_edit and error.fix else hint
        raise ArchiveError(f"{path}: {error}; {fix}.") from None
    except PermissionError as error:
        raise ArchiveError(f"{path}: {_describe(path, error)}; correct its permissions.") from None
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
