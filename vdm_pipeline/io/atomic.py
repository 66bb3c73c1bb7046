"""Writes that are whole or did not happen: a temporary sibling, fsync, rename."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFTOVER = re.compile(r"\.[0-9a-f]{8}\.(part(\.\w+)?|old)$")


@contextmanager
def atomic_file(path: Path, sync_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on an exception it is removed.

    Without ``sync_folder`` a power cut may lose the file, whole; a caller that writes many at a time calls `sync` on their
    folder once, which is half of the cost of a small file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        if sync_folder:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_path(new: Path, path: Path) -> None:
    """Put file or folder ``new`` (on the same file system) in the place of ``path``.

    A folder cannot be replaced in one step: the old one is renamed aside first and put back if the second rename fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.is_file():
        os.replace(new, path)
    else:
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
        os.replace(path, aside)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(aside, path)
            raise
        _remove(aside)
    sync(path.parent)


def remove_leftovers(folder: Path, pattern: str = "**/.*") -> None:
    """Remove what killed writers left in ``folder`` under ``pattern``: temporary files, and old folders that were set aside."""
    for path in list(folder.glob(pattern)):
        if LEFTOVER.search(path.name):
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file, a folder, or a link without what it leads to."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
