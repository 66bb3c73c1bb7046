"""Which folders are projects, and whether Dagster's database can be in one."""

import errno
import os
import re
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


def is_project(folder: Path) -> bool:
    """Whether the folder's workspace.yaml names our definitions."""
    path = folder / "workspace.yaml"
    with translate_disk_errors(path):
        return os.path.isfile(path) and MODULE in path.read_text(encoding="utf-8", errors="replace")


def not_a_project(folder: Path) -> PipelineError:
    """The error of a command in a wrong folder. It names the project above it, or else that of the code."""
    candidates = [*folder.parents, Path(vdm_pipeline.__file__).parents[1]]
    project = next(filter(is_project, candidates), "the folder that has its workspace.yaml")
    return PipelineError(f"{folder} is not a vdm_pipeline project; cd to {project}")


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
    if "sqlite" not in settings.read_text(encoding="utf-8", errors="replace"):
        return
    _check_length(folder)
    owned_path(folder, "results")
    instance = folder / INSTANCE
    with translate_disk_errors(instance):
        for path in (instance, *instance.glob("*"), *instance.glob("history/*"), *instance.glob("*/*.db")):
            _check_writable(path)


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
