"""What an asset left behind: one JSON a materialization, the only record that decides whether its files are still good."""

import hashlib
import json
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text

Content = TypeVar("Content")
Stamp = tuple[int, ...]
"""Of a file: where it lies, its size, and when it was touched."""
NEW_STAMP_S = 2.0
"""A file that was touched later than this long ago may be touched again without a new time stamp, so it is read anew."""
MAX_NAME = 255
"""Bytes of a file's name, on every common disk."""
MAX_BYTES = 64 * 2**20
"""Of a record; the pictures in one take some hundred kB."""


class Manifest(BaseModel):
    """Record of one materialization; paths are relative to the project folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    fingerprint: str
    code_version: str
    data_version: str
    inputs: dict[str, str]
    files: dict[str, str]
    settings: dict[str, Any]
    metadata: dict[str, Any]
    seconds: float
    peak_memory_mb: float

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            parts = name.split("/")
            if name.startswith("/") or ".." in parts or "\0" in name or any(len(part.encode()) > MAX_NAME for part in parts):
                raise ValueError(f"{name!r} is no file in the project folder")
        return files

    @field_validator("metadata")
    @classmethod
    def _shown(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(metadata.get("preview", ""), str):
            raise ValueError("the preview is no text")
        return metadata


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write atomically."""
    write_text(path, manifest.model_dump_json(indent=1) + "\n")


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, or None where there is none; one that was not touched since is read once a process.

    Raises `PipelineError` if the file is damaged, or of another asset: it is for the user to see, not to be passed over.
    """
    return _if_touched(_read_manifest, _known_manifest, path) if path.exists() else None


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes, hex; a file that was not touched since is read once a process.

    Raises `PipelineError` if there is no file.
    """
    if not path.is_file():
        raise PipelineError(f"{path} is no file; put the file there, or correct what names it.")
    return _if_touched(_read_sha256, _known_sha256, path)


def _if_touched(read: Callable[[Path], Content], known: Callable[[Path, Stamp], Content], path: Path) -> Content:
    """Any write to a file sets its change time, which no user can set."""
    found = path.stat()
    if time.time() - found.st_ctime < NEW_STAMP_S:
        return read(path)
    return known(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _read_manifest(path: Path) -> Manifest:
    try:
        if path.stat().st_size > MAX_BYTES or not path.is_file():
            raise ValueError("no record")
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        if manifest.asset != path.stem:
            raise ValueError(f"of {manifest.asset}")
        return manifest
    except ValueError:  # also what pydantic and the decoder raise
        raise PipelineError(f"{path} is damaged; delete it, and the asset is made again.") from None


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1000)
def _known_manifest(path: Path, _stamp: Stamp) -> Manifest:
    return _read_manifest(path)


@lru_cache(maxsize=1_000_000)
def _known_sha256(path: Path, _stamp: Stamp) -> str:
    return _read_sha256(path)


def data_version(hashes: dict[str, str]) -> str:
    """Sixteen hex digits over names and hashes of files; the same content gives the same version anywhere."""
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
