"""Whether a zip file, such as an `.npz`, was copied completely."""

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from vdm_pipeline.io.hashing import FileStat, read_if_changed

ZIP = b"PK\x03\x04"
"""First bytes of a zip file."""


def missing_part(path: Path) -> str | None:
    """What a zip file lacks while it is being copied, or None. Reads the file once per change.

    The directory of a zip is its end, so a file that grows has none. A copy that fills a reserved or an older
    file may have one early, but the CRC-32 of a member is wrong until all its bytes are there. A file that no
    copy turns into a zip lacks nothing.
    """
    return read_if_changed(_missing_part, _cached_missing_part, path)


def may_become_zip(start: bytes) -> bool:
    """Whether a file with these first four bytes is a zip, or becomes one as it is copied: 0 is unwritten."""
    return ZIP.startswith(start.rstrip(b"\0"))


def _missing_part(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if not archive.namelist():
                raise zipfile.BadZipFile("its directory is empty")
            damaged = archive.testzip()
    except (PermissionError, RuntimeError):  # unknown method, encrypted: the run reports it
        return None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        OSError,
    ):  # OSError: a seek before the start
        with path.open("rb") as file:
            return "its end or a part of it is missing" if may_become_zip(file.read(len(ZIP))) else None
    return f"the checksum of {damaged} is wrong" if damaged else None


@lru_cache(maxsize=4)
def _cached_missing_part(path: Path, _stat: FileStat) -> str | None:
    return _missing_part(path)
