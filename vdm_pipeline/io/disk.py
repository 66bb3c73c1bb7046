"""A disk that is full, or that may not be written to, in one sentence."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vdm_pipeline.errors import PipelineError

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
TAKEN = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""A file stands where a folder is to stand, or a folder where a file is."""


ROOM = 16 * 2**20
"""Bytes that a run is not begun without: Dagster notes its events in the same place, and fails in words of its own."""


def check_room(folder: Path) -> None:
    """Raise `PipelineError` if the folder's disk is nearly full."""
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise PipelineError(
            f"The disk of {folder} has {free / 1e6:.1f} MB left; make room for {ROOM / 1e6:.0f} MB, and run again."
        )


@contextmanager
def disk_faults(place: Path) -> Iterator[None]:
    """Raise `PipelineError` in the place of an ``OSError`` of the disk's; ``place`` is named where the error names no file."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or place  # of a rename, where to
        if error.errno in FULL:
            raise PipelineError(
                f"The disk is full ({where}); make room, and the next run goes on from where it was."
            ) from None
        if error.errno in CLOSED:
            raise PipelineError(
                f"{where}: {error.strerror}; make it writable, or set VDM_ROOT to a folder that is."
            ) from None
        if error.errno in TAKEN:
            raise PipelineError(
                f"{where}: {error.strerror}; something else stands in its place, move it away."
            ) from None
        raise
