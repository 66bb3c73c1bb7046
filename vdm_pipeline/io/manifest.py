"""What an asset left behind: one JSON a materialization, the only record that decides whether its files are still good."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.hashing import FileStat, read_if_changed

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
            if (
                name.startswith("/")
                or ".." in parts
                or "\0" in name
                or any(len(part.encode()) > MAX_NAME for part in parts)
            ):
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
    return read_if_changed(_read_manifest, _cached_manifest, path) if path.exists() else None


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


@lru_cache(maxsize=1000)
def _cached_manifest(path: Path, _stat: FileStat) -> Manifest:
    return _read_manifest(path)


def data_version(hashes: dict[str, str]) -> str:
    """Sixteen hex digits over names and hashes of files; the same content gives the same version anywhere."""
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
