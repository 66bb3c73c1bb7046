"""Errors of a full or read-only disk, as one sentence."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vdm_pipeline.errors import PipelineError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
WRONG_TYPE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""A file exists where a folder is needed, or the reverse."""
MIN_FREE_BYTES = 16 * 2**20
"""A run needs this much to start. Dagster stores its events on the same disk and fails less clearly."""


def check_free_space(folder: Path) -> None:
    """Raise `PipelineError` if the folder's disk is nearly full."""
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise PipelineError(
            f"The disk of {folder} has {free / 1e6:.1f} MB left; "
            f"free {MIN_FREE_BYTES / 1e6:.0f} MB, and run again."
        )


@contextmanager
def translate_disk_errors(default: Path) -> Iterator[None]:
    """Raise `PipelineError` instead of an ``OSError`` of the disk; other errors pass.

    The sentence names the file of the error, or ``default`` if the error has none.
    """
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename or default  # filename2: the target of a rename
        if error.errno in NO_SPACE:
            raise PipelineError(
                f"The disk is full ({path}); free some space, and the next run resumes."
            ) from None
        if error.errno in READ_ONLY:
            raise PipelineError(
                f"{path}: {error.strerror}; make it writable, or set VDM_ROOT to a writable folder."
            ) from None
        if error.errno in WRONG_TYPE:
            raise PipelineError(
                f"{path}: {error.strerror}; another file or folder has this name, move it away."
            ) from None
        raise
