"""Which folders are projects, and whether Dagster's database can be in one."""

import errno
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import vdm_pipeline
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.disk import translate_disk_errors

MODULE = "vdm_pipeline.definitions"
INSTANCE = "results/.dagster"
"""Folder of the Dagster instance, as in dagster.yaml."""
LONGEST_FILE = f"{INSTANCE}/history/runs/{'0' * 36}.db-journal"
SQLITE_MAX_PATH = 512
"""Bytes that SQLite accepts (``MAX_PATHNAME`` in its os_unix.c)."""
UNSAFE = re.compile(r"[*?\[]|%[0-9A-Fa-f]{2}")
"""Dagster puts the path into a database URL and into a glob pattern for dagster.yaml, without escapes.

With these characters it would open another file, or ignore its settings.
"""


PACKAGE = Path(vdm_pipeline.__file__).parent


@contextmanager
def translate_read_errors(default: Path) -> Iterator[None]:
    """Raise `PipelineError` instead of an ``OSError`` while something is only read.

    The sentence names the file of the error, or ``default`` if the error has none.
    """
    try:
        yield
    except OSError as error:
        path = error.filename or default
        raise PipelineError(f"{path}: {error.strerror}; make it readable, or move it away.") from None


def working_directory() -> Path:
    """Its path. Raises `PipelineError` if it was deleted."""
    try:
        return Path.cwd()
    except OSError as error:
        raise PipelineError(f"The working directory: {error.strerror}; cd to {_project_of_code()}") from None


def is_project(folder: Path) -> bool:
    """Whether the folder's workspace.yaml names our definitions."""
    path = folder / "workspace.yaml"
    with translate_read_errors(path):
        return os.path.isfile(path) and MODULE in path.read_text(encoding="utf-8", errors="replace")


def is_readable_project(folder: Path) -> bool:
    """Like `is_project`, but not for a folder whose files may not be read, such as another user's."""
    with suppress(PipelineError):
        return is_project(folder)
    return False


def not_a_project(folder: Path) -> PipelineError:
    """The error of a command in a wrong folder. It names the project above it, or else that of the code."""
    project = next(filter(is_readable_project, folder.parents), _project_of_code())
    return PipelineError(f"{folder} is not a vdm_pipeline project; cd to {project}")


def _project_of_code() -> Path | str:
    folder = PACKAGE.parent
    return folder if is_readable_project(folder) else "the folder that has its workspace.yaml"


def owned_path(root: Path, name: str) -> Path:
    """Path of files that only this program writes and may delete.

    Raises `PipelineError` if a part of the path below the root is a link.
    """
    path = root
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise PipelineError(
                f"{path} is a link to {os.readlink(path)!r}, "
                "but the pipeline needs its own folder there; remove it."
            )
    return path


def check_instance_folder(folder: Path) -> None:
    """Raise `PipelineError` if Dagster cannot write its instance in the project folder. Writes nothing.

    An instance in PostgreSQL may be anywhere.
    """
    unsafe = UNSAFE.search(str(folder))
    if unsafe:
        raise PipelineError(
            f"The path of the project folder {folder} has '{unsafe[0]}' in it, which Dagster cannot read; "
            "rename the folder."
        )
    settings = folder / "dagster.yaml"
    if not settings.is_file():
        raise PipelineError(f"{settings} is missing; copy it from the vdm_pipeline repository.")
    with translate_read_errors(settings):
        text = settings.read_text(encoding="utf-8", errors="replace")
    if "sqlite" not in text:
        return
    _check_length(folder)
    owned_path(folder, "results")
    instance = folder / INSTANCE
    with translate_disk_errors(instance):
        for path in (instance, *instance.glob("*"), *instance.glob("history/*"), *instance.glob("*/*.db")):
            _check_writable(path)


def check_package_folder(folder: Path) -> None:
    """Raise `PipelineError` if the project folder lacks the package, whose files `dg` looks for there."""
    if not os.path.isdir(folder / PACKAGE.name):
        link = f"ln -s {shlex.quote(str(PACKAGE))} {shlex.quote(str(folder))}"
        raise PipelineError(f"{folder} has no folder {PACKAGE.name}, which this command needs; run: {link}")


def _check_length(folder: Path) -> None:
    excess = len(os.fsencode(folder / LONGEST_FILE)) - SQLITE_MAX_PATH
    if excess > 0:
        raise PipelineError(
            f"The path of the project folder is {excess} bytes too long for Dagster's database; move it."
        )


def _check_writable(path: Path) -> None:
    """Raise an error if the file, or the first folder above it that exists, may not be written."""
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if existing != path and not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(existing))
    if not os.access(existing, os.W_OK, effective_ids=True):
        raise PipelineError(
            f"{existing} is not writable; make it writable, or run dg with DAGSTER_HOME and VDM_ROOT set to "
            "writable folders."
        )
