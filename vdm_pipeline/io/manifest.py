"""Manifests: one JSON file per materialized asset, which decides whether its files are current."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.hashing import FileStat, read_if_changed

MAX_NAME_BYTES = 255
"""Longest file name of common file systems."""
MAX_MANIFEST_BYTES = 64 * 2**20
"""A manifest with previews takes some hundred kB."""


class Manifest(BaseModel):
    """One materialization. Paths are relative to the project folder.

    ``versions`` are the data versions of the asset's parts, and ``inputs`` those that it read, as
    ``<asset>.<part>``. Manifests of releases without parts have no ``versions``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    fingerprint: str
    code_version: str
    data_version: str
    versions: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, str]
    files: dict[str, str]
    settings: dict[str, Any]
    metadata: dict[str, Any]
    seconds: float
    peak_memory_mb: float

    @field_validator("files")
    @classmethod
    def _in_project_folder(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            parts = name.split("/")
            outside = name.startswith("/") or ".." in parts
            if outside or "\0" in name or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
                raise ValueError(f"{name!r} is not a file in the project folder")
        return files

    @field_validator("metadata")
    @classmethod
    def _previews_are_texts(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        inline = metadata.get("inline", {})
        previews = [metadata.get("preview", ""), *(inline.values() if isinstance(inline, dict) else [None])]
        if not all(isinstance(preview, str) for preview in previews):
            raise ValueError("a preview is not text")
        return metadata


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write atomically."""
    write_text(path, manifest.model_dump_json(indent=1) + "\n")


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, or None if there is none. A file that did not change is parsed once per process.

    Raises `PipelineError` if the file is damaged or belongs to another asset. The user has to see that, so
    the asset is not just recomputed.
    """
    return read_if_changed(_read_manifest, _cached_manifest, path) if path.exists() else None


def _read_manifest(path: Path) -> Manifest:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES or not path.is_file():
            raise ValueError("not a manifest")
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        if manifest.asset != path.stem:
            raise ValueError(f"of {manifest.asset}")
        return manifest
    except ValueError:  # pydantic and the UTF-8 decoder raise subclasses
        raise PipelineError(f"{path} is damaged; delete it to recompute the asset.") from None


@lru_cache(maxsize=1000)
def _cached_manifest(path: Path, _stat: FileStat) -> Manifest:
    return _read_manifest(path)


def data_version(hashes: dict[str, str]) -> str:
    """Sixteen hex digits over names and hashes, of files or of parts; the same on every machine."""
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
