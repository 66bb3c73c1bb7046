"""Atomic writes: a temporary file or folder beside the target, fsync, rename.

A process locks its temporary files, so that another one removes only those of killed processes.
"""

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vdm_pipeline.io.lock import try_lock

LEFTOVER = re.compile(r"^\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>part|old)(\.\w+)?$")
"""Names of temporary files and folders, and of folders that are being replaced."""


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside ``path``, with its suffix; remove it at the end if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    descriptor = os.open(temporary, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try_lock(temporary, descriptor, fcntl.LOCK_EX)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path, sync_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``. On success it replaces ``path``; on an exception it is removed.

    Without ``sync_folder`` a power failure may lose the whole file. A caller that writes many files calls
    `sync` once on their folder instead, which halves the cost of a small file.
    """
    with temporary_file(path) as temporary:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        if sync_folder:
            sync(path.parent)


def try_write(folder: Path) -> None:
    """Write a temporary file to the folder; raises ``OSError`` if that is not possible."""
    with temporary_file(folder / "write_test") as temporary:
        temporary.write_bytes(b"0")
        sync(temporary)


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
        remove_file_or_folder(old)
    sync(path.parent)


def remove_leftovers(folder: Path, pattern: str = "**/.*") -> None:
    """Remove the temporary files and renamed old folders that killed writers left in ``folder``."""
    for path in list(folder.glob(pattern)):
        remove_if_leftover(path)


def remove_if_leftover(path: Path) -> None:
    """Remove a temporary file or folder whose process is gone; other files stay.

    An old folder goes back to its place if the new one never arrived there.
    """
    match = LEFTOVER.match(path.name)
    if match is None or not os.path.lexists(path) or (not path.is_symlink() and _is_in_use(path)):
        return
    target = path.with_name(match["name"])
    if match["kind"] == "old" and not os.path.lexists(target):
        os.replace(path, target)
    else:
        remove_file_or_folder(path)


def _is_in_use(path: Path) -> bool:
    """Whether a living process has locked the file or folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return not try_lock(path, descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def remove_file_or_folder(path: Path) -> None:
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
