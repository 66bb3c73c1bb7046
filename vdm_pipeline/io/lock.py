"""A lock file that is released when its process ends, however it ends."""

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
from vdm_pipeline.io.progress import Throttle

NO_LOCK_SUPPORT = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of network file systems that are mounted without locks or have none."""
POLL_S = 0.2
MESSAGE_S = 30.0
"""Seconds between two messages of a waiting process."""

Holder = dict[str, Any]
"""What the process that holds the lock wrote about itself."""


@contextmanager
def locked(path: Path, holder: Holder, on_wait: Callable[[Holder], None]) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; others can read ``holder`` from it.

    While another process holds it, wait, and call ``on_wait`` with its holder: at once and every 30 s.
    Raises ``OSError`` if the file cannot be opened, and `PipelineError` if its file system has no locks.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "not a regular file", str(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        _acquire(path, descriptor, on_wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> Holder | None:
    """The holder of the lock, or None if it is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not block if it is a named pipe
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(path, descriptor, fcntl.LOCK_SH) else _read_holder(descriptor)
    finally:
        os.close(descriptor)


def _acquire(path: Path, descriptor: int, on_wait: Callable[[Holder], None]) -> None:
    if try_lock(path, descriptor, fcntl.LOCK_EX):
        return
    on_wait(_read_holder(descriptor))
    messages = Throttle(MESSAGE_S)
    while not try_lock(path, descriptor, fcntl.LOCK_EX):
        if messages.due():
            on_wait(_read_holder(descriptor))
        time.sleep(POLL_S)


def try_lock(path: Path, descriptor: int, mode: int) -> bool:
    """Lock the open file or folder if no other process has it; the lock ends with the descriptor.

    Raises `PipelineError` if the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCK_SUPPORT:
            raise
        raise PipelineError(
            f"{path} cannot be locked, because its file system has no locks ({error.strerror}); "
            "set VDM_ROOT, or HF_HOME for models, to a folder on another file system."
        ) from None
    return True


def _read_holder(descriptor: int) -> Holder:
    """The holder; empty in the moment before it is written, or if the content is something else."""
    with suppress(ValueError):
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return holder if isinstance(holder, dict) else {}
    return {}
