"""Atomic writes: a temporary file or folder beside the target, fsync, rename."""

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
    """Yield a temporary path beside ``path``. On success it replaces ``path``; on an exception it is removed.

    Without ``sync_folder`` a power failure may lose the whole file. A caller that writes many files calls
    `sync` once on their folder instead, which halves the cost of a small file.
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
    """Move the file or folder ``new`` to ``path``, replacing what is there. Both are on the same file system.

    A folder cannot be replaced in one step. The old one is renamed first, and renamed back if the second
    rename fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.is_file():
        os.replace(new, path)
    else:
        old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
        os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            os.replace(old, path)
            raise
        _remove(old)
    sync(path.parent)


def remove_leftovers(folder: Path, pattern: str = "**/.*") -> None:
    """Remove the temporary files and renamed old folders that killed writers left in ``folder``."""
    for path in list(folder.glob(pattern)):
        if LEFTOVER.search(path.name):
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file, a folder, or a link without its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
