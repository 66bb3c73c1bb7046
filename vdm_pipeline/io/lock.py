"""A lock on a folder that ends with the process that holds it, however it ends."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import PipelineError

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What network file systems answer that were mounted without locks, or know none."""
LOOK_S = 0.2
TELL_S = 30.0


@contextmanager
def locked(path: Path, note: dict[str, Any], waiting: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; ``note`` is what others may read of the holder.

    While another holds it, wait, and give ``waiting`` the other's note, at once and every 30 s. Raises ``OSError`` where the
    file cannot be opened, and `PipelineError` where its file system knows no locks.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "no plain file", str(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        told = -TELL_S
        while not _take(path, descriptor):
            if time.monotonic() - told >= TELL_S:
                told = time.monotonic()
                waiting(_read(descriptor))
            time.sleep(LOOK_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> dict[str, Any] | None:
    """The note of the process that holds the lock, or None if none does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place would wait for ever
    except FileNotFoundError:
        return None
    try:
        return None if _take(path, descriptor, fcntl.LOCK_SH) else _read(descriptor)
    finally:
        os.close(descriptor)


def _take(path: Path, descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        raise PipelineError(
            f"{path} cannot be locked, as its file system has no locks ({error.strerror}); set VDM_ROOT, or HF_HOME for models, "
            "to a folder on another."
        ) from None
    return True


def _read(descriptor: int) -> dict[str, Any]:
    """The holder's note; empty in the moment before it is written, or where it is not ours."""
    with suppress(ValueError):
        note = json.loads(os.pread(descriptor, 4096, 0))
        return note if isinstance(note, dict) else {}
    return {}
