"""Hashes of files and folders: what decides whether content is the recorded, pinned or published one."""

import hashlib
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from vdm_pipeline.errors import ArchiveError, PipelineError

Content = TypeVar("Content")
FileStat = tuple[int, ...]
"""Device, inode, size in bytes, mtime and ctime in ns."""
RECENT_CHANGE_S = 2.0
"""A file changed within this time may change again under the same time stamp, so it is read again."""


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes, hex. A file that did not change is read once per process.

    Raises `PipelineError` if there is no file.
    """
    if not path.is_file():
        raise PipelineError(
            f"{path} is not a file; put the file there, or correct the setting that names it."
        )
    return read_if_changed(_read_sha256, _cached_sha256, path)


def digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file: ``md5`` to compare with published values, ``sha256`` for everything else.

    Raises `ArchiveError` if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.new(algorithm, usedforsecurity=False)
            ).hexdigest()
    except OSError as error:
        raise ArchiveError(
            f"{path}: cannot be read ({error.strerror}); correct its permissions, or move it away."
        ) from None


def folder_hashes(folder: Path) -> dict[str, str]:
    """Sha256 of a folder's files by sorted relative name, without hidden files, ``*.md`` and ``*.part``."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith((".", "__")) for part in name.split("/"))
        if not hidden and not name.endswith((".md", ".part")):
            hashes[name] = file_sha256(path)
    return hashes


def folder_digest(folder: Path) -> str:
    """Sha256 over the names and contents of a folder's files, as `folder_hashes` lists them."""
    total = hashlib.sha256()
    for name, sha256 in folder_hashes(folder).items():
        total.update(name.encode() + b"\0" + bytes.fromhex(sha256))
    return total.hexdigest()


def read_if_changed(
    read: Callable[[Path], Content], cached: Callable[[Path, FileStat], Content], path: Path
) -> Content:
    """``cached`` unless the file changed a moment ago. Any write sets the ctime, which a user cannot set."""
    stat = path.stat()
    if time.time() - stat.st_ctime < RECENT_CHANGE_S:
        return read(path)
    return cached(path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1_000_000)
def _cached_sha256(path: Path, _stat: FileStat) -> str:
    return _read_sha256(path)
