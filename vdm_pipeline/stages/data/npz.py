"""One `.npz` file: read and written so that a bad one costs a sentence, not the machine's memory.

A `.npz` is a zip of `.npy` members. What the zip and the `.npy` headers declare is checked before any array is read.
"""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io.atomic import atomic_file

MAX_BYTES = 4 * 2**30
"""Most bytes that the arrays of one file may take in memory."""
MAX_RATIO = 1032
"""Deflate cannot shrink further than this; who declares more lies."""
CHUNK = 2**20


class Header(NamedTuple):
    """What a `.npy` member says of itself; ``offset`` is where its data starts, in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        """Size of the array in memory, bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class _FaultError(Exception):
    """A fault of the file, without its name and the mend."""


@dataclass(frozen=True)
class Npz:
    """A file whose names, sizes and headers were found in order; its arrays are read when they are asked for."""

    path: Path
    headers: Mapping[str, Header]
    hint: str

    def array(self, key: str) -> NDArray:
        """The whole array ``key``. Raises `ArchiveError` if the file is damaged there."""
        header = self.headers[key]
        data = np.empty(header.nbytes, np.uint8)
        at = 0
        for piece in self._pieces(key, CHUNK):
            data[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        return np.ascontiguousarray(
            data.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
        )

    def rows(self, key: str, count: int) -> Iterator[NDArray]:
        """The array in pieces of ``count`` rows, so that memory does not grow with its length (Fortran order is read whole).

        Raises `ArchiveError` if the file is damaged; the checksum can tell only at the end.
        """
        header = self.headers[key]
        if header.fortran:
            whole = self.array(key)
            yield from (whole[start : start + count] for start in range(0, len(whole), count))
            return
        size = math.prod(header.shape[1:]) * header.dtype.itemsize
        for piece in self._pieces(key, count * size):
            yield np.frombuffer(bytearray(piece), header.dtype).reshape(-1, *header.shape[1:])

    def _pieces(self, key: str, size: int) -> Iterator[bytes]:
        """The array's bytes, ``size`` at a time; zipfile yields no more than the declared size and checks the CRC at its end."""
        with (
            _one_sentence(self.path, self.hint),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{key}.npy") as file,
        ):
            file.read(self.headers[key].offset)
            left = self.headers[key].nbytes
            while left:
                piece = _read(file, min(size, left))
                if not piece:
                    raise _FaultError(f"{key}.npy ends too early")
                left -= len(piece)
                yield piece
            file.read(1)


def _read(file: IO[bytes], size: int) -> bytes:
    """``size`` bytes, or what is left: a zip member gives less at a time than it is asked for."""
    parts, left = [], size
    while left and (part := file.read(min(left, CHUNK))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def open_npz(
    path: Path, keys: Sequence[str], check: Callable[[Mapping[str, Header]], str | None], hint: str
) -> Npz:
    """Check a file that must hold the arrays ``keys`` and nothing else.

    ``check`` sees the headers before any array is read and returns the fault, or None. Raises `ArchiveError`, one
    sentence that names the file and the fault and ends in ``hint``.
    """
    with _one_sentence(path, hint), zipfile.ZipFile(path) as archive:
        members = _members(archive, keys, path.stat().st_size)
        headers = {key: _header(archive, key, info) for key, info in members.items()}
        fault = _size_fault(headers) or check(headers)
        if fault:
            raise _FaultError(fault)
    return Npz(path, headers, hint)


@contextmanager
def _one_sentence(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except _FaultError as error:
        raise ArchiveError(f"{path}: {error}; {hint}.") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        MemoryError,
    ) as error:
        raise ArchiveError(f"{path}: {_what_is_wrong(path, error)}; {hint}.") from None


def write_npz(path: Path, arrays: Mapping[str, NDArray], comment: str = "") -> None:
    """Write ``arrays`` atomically; the same arrays and zip comment give the same bytes at any time.

    Stored, not deflated: versions of zlib differ in their output.
    """
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment.encode()
        for key, array in arrays.items():
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), version=(1, 0), allow_pickle=False)


def read_comment(path: Path) -> str:
    """The comment of a zip file, or '' where there is none to be had."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode(errors="replace")
    except (
        OSError,
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
    ):  # zipfile raises the last for a version it does not know
        return ""


def _members(archive: zipfile.ZipFile, keys: Sequence[str], file_size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by key, once names and declared sizes are in order."""
    infos = archive.infolist()
    wanted, found = {f"{key}.npy" for key in keys}, [info.filename for info in infos]
    if wanted - set(found):
        raise _FaultError(f"the array {_named(wanted - set(found))} is missing from it")
    if len(found) != len(wanted):
        extra = set(found) - wanted
        raise _FaultError(
            f"it holds {_named(extra)}, which does not belong there" if extra else "a name stands in it twice"
        )
    for info in infos:
        if info.flag_bits & 0x1:
            raise _FaultError(f"{info.filename} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _FaultError(f"{info.filename} is compressed in a way that NumPy never writes")
        if info.file_size > MAX_RATIO * info.compress_size:
            raise _FaultError(
                f"{info.filename} declares {info.file_size} bytes in {info.compress_size}, a zip bomb"
            )
    if sum(info.compress_size for info in infos) > file_size:
        raise _FaultError("its members overlap or are longer than the file, a zip bomb or a file cut short")
    return {info.filename.removesuffix(".npy"): info for info in infos}


def _named(names: set[str]) -> str:
    shown = ", ".join(repr(name[:40].removesuffix(".npy")) for name in sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _header(archive: zipfile.ZipFile, key: str, info: zipfile.ZipInfo) -> Header:
    """Parse one header. Version 1.0 alone, whose length is bounded by 64 KiB; NumPy writes no other for plain arrays."""
    with archive.open(info) as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("version")
            header = Header(*np.lib.format.read_array_header_1_0(file), file.tell())
        except (zipfile.BadZipFile, OSError):
            raise
        except Exception:  # NumPy's parser raises whatever Python's tokenizer does
            raise _FaultError(f"{key} is no plain .npy array") from None
    if header.dtype.hasobject:
        raise _FaultError(f"{key} holds pickled Python objects, which are never loaded")
    if min(header.shape, default=0) < 0 or header.offset + header.nbytes != info.file_size:
        raise _FaultError(
            f"{key} claims {list(header.shape)} of {header.dtype}, {header.nbytes} bytes, but the zip declares {info.file_size}"
        )
    return header


def _size_fault(headers: Mapping[str, Header]) -> str | None:
    total = sum(header.nbytes for header in headers.values())
    return (
        f"its arrays would take {total} bytes, more than the {MAX_BYTES} allowed"
        if total > MAX_BYTES
        else None
    )


def _what_is_wrong(path: Path, error: Exception) -> str:
    if not path.is_file():
        return "there is no such file"
    if isinstance(error, OSError | MemoryError):
        return f"it cannot be read ({error.__class__.__name__}: {error})"
    if zipfile.is_zipfile(path):
        return f"it is damaged ({error})"
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "it is an empty file"
    return "it is cut short" if start == b"PK\x03\x04" else "it is no .npz file (a zip)"
