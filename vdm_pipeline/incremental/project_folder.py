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
URL_SYNTAX = re.compile(r"\?|%[0-9A-Fa-f]{2}")
"""Dagster writes the path into a database URL without escapes, so these would lead to another file."""


def is_project(folder: Path) -> bool:
    """Whether the folder's workspace.yaml names our definitions."""
    path = folder / "workspace.yaml"
    with translate_disk_errors(path):
        return os.path.isfile(path) and MODULE in path.read_text(encoding="utf-8", errors="replace")


def not_a_project(folder: Path) -> PipelineError:
    """The error of a command in a wrong folder. It names the project above it, or else that of the code."""
    candidates = [*folder.parents, Path(vdm_pipeline.__file__).parents[1]]
    project = next(
        (str(path) for path in candidates if is_project(path)), "the folder with its workspace.yaml"
    )
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
    """Raise `PipelineError` if Dagster cannot write its instance in the project folder. Writes nothing."""
    _check_database_path(folder)
    if not (folder / "dagster.yaml").is_file():
        raise PipelineError(f"{folder}/dagster.yaml is missing; copy it from the vdm_pipeline repository.")
    owned_path(folder, "results")
    instance = folder / INSTANCE
    with translate_disk_errors(instance):
        for path in (instance, *instance.glob("*"), *instance.glob("history/*"), *instance.glob("*/*.db")):
            _check_writable(path)


def _check_database_path(folder: Path) -> None:
    if URL_SYNTAX.search(str(folder)):
        raise PipelineError(
            f"The project folder {folder} has a '?' or a '%' with two digits in its path, "
            "which Dagster's database cannot have; rename the folder."
        )
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
            f"{existing} is not writable; change that, or set DAGSTER_HOME and VDM_ROOT to folders that are."
        )
