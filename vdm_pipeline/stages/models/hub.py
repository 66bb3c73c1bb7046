"""Fetch a pinned repository of a model hub into a verified folder, once, with resumable downloads.

`huggingface_hub` does listing, gated access, tokens and offline mode, and files in its cache are reused. The
weights, which are gigabytes, are downloaded by `vdm_pipeline.io.download`: `huggingface_hub` restarts a file
after a kill and does not detect a server that sends another file. Other programs share its cache, so nothing
in there is changed.
"""

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from huggingface_hub import (
    HfApi,
    RepoFile,
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import build_hf_headers, tqdm

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import file_sha256, folder_hashes
from vdm_pipeline.io.network import check_network_settings
from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models.hub_errors import translate_hub_errors
from vdm_pipeline.stages.models.verified_folder import VerifiedFolder

DESCRIPTIONS = ("*.json", "*.txt")
"""Configurations and vocabularies, fetched beside the weights."""
RECORD = ".fetched.json"
MARGIN = 50 * 2**20
"""Bytes to leave free beside the weights, for the descriptions."""


def fetch_repository(pin: ModelPin, log: Log) -> Path:
    """Folder with the pinned weights and the descriptions, fetched if it is missing or changed.

    Raises `NetworkError` if the hub cannot be reached or a download breaks off (the partial file stays);
    `ModelError` if the hub denies access, a file is missing or differs from the pin, or the disk has too
    little room; ``OSError`` if the disk is full.
    """
    with translate_hub_errors(pin.id, str(pin.revision)):
        name = f"{pin.id.replace('/', '--')}--{pin.revision}"
        folder = VerifiedFolder.in_cache("models", name, RECORD)
        with folder.lock(log, f"{pin.id}: another process is fetching it; waiting for it"):
            if not folder.is_intact(required=pin.weights):
                _fetch(pin, folder.path, log)
                folder.write_record()
    return folder.path


def weight_hashes(repository: str, revision: str) -> dict[str, str]:
    """Sha256 of each large file of a repository, as the hub reports it; needed to write a pin."""
    with translate_hub_errors(repository, revision):
        files = _list_files(repository, revision)
        return {file.path: str(file.lfs.sha256) for file in files if file.lfs}


def _fetch(pin: ModelPin, folder: Path, log: Log) -> None:
    """Remove files that the pin does not name, reuse the hub's cache, and download the rest."""
    weights = pin.weights or {}
    for name, sha256 in folder_hashes(folder).items():
        if weights.get(name) != sha256:
            (folder / name).unlink()
    _reuse_cache(pin, folder)
    if constants.HF_HUB_OFFLINE and _has_all(pin, folder):
        return  # online, the hub decides which descriptions there are
    files = {file.path: file for file in _list_files(pin.id, pin.revision)}
    _check_hashes(pin, files)
    _fetch_descriptions(pin, folder)
    sizes = {name: _size(files[name]) for name in weights}
    _check_room(pin, folder, sizes)
    for name, sha256 in weights.items():
        if not (folder / name).exists():
            fetch(_remote(pin, folder, name, sha256, sizes[name]), log)


def _size(file: RepoFile) -> int:
    """Bytes of the content, not of the pointer to a large file."""
    return file.lfs.size if file.lfs else file.size


def _fetch_descriptions(pin: ModelPin, folder: Path) -> None:
    patterns = list(DESCRIPTIONS)
    try:
        snapshot_download(
            pin.id, revision=pin.revision, allow_patterns=patterns, local_dir=folder, tqdm_class=SilentBar
        )
    except (RuntimeError, ValueError) as error:  # raised by it and by `hf_xet` for network errors
        raise ConnectionError(str(error)) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # bookkeeping of `huggingface_hub`


def _has_all(pin: ModelPin, folder: Path) -> bool:
    """Whether the folder has the pinned weights and at least one description."""
    names, weights = set(folder_hashes(folder)), set(pin.weights or {})
    return weights < names


def _reuse_cache(pin: ModelPin, folder: Path) -> None:
    """Link or copy pinned weights and descriptions that the hub's cache has at this commit."""
    weights = pin.weights or {}
    patterns = [*weights, *DESCRIPTIONS]
    try:
        cache = Path(
            snapshot_download(pin.id, revision=pin.revision, allow_patterns=patterns, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        name = path.relative_to(cache).as_posix()
        if not (folder / name).exists() and _is_usable(path, weights.get(name)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path.resolve(), folder / name)


def _is_usable(path: Path, pinned_sha256: str | None) -> bool:
    """Whether a cached file is a description, or a weight file with the pinned hash."""
    if any(path.match(pattern) for pattern in DESCRIPTIONS):
        return True
    return pinned_sha256 is not None and file_sha256(path) == pinned_sha256


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard link if the file system allows it, so that gigabytes are not stored twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _list_files(repository: str, revision: str | None) -> list[RepoFile]:
    check_network_settings()
    entries = HfApi().list_repo_tree(repository, revision=revision, recursive=True)
    return [entry for entry in entries if isinstance(entry, RepoFile)]


def _check_hashes(pin: ModelPin, files: dict[str, RepoFile]) -> None:
    """Raise `ModelError` if the repository lacks a pinned file, or reports another hash for it."""
    for name, pinned in (pin.weights or {}).items():
        if name not in files:
            raise ModelError(
                f"'{pin.id}' at {pin.revision} has no file '{name}'; "
                "correct the weights of its pin in the profile."
            )
        lfs = files[name].lfs
        if lfs and lfs.sha256 != pinned:
            raise ModelError(
                f"'{name}' of '{pin.id}' at {pin.revision} has sha256 {lfs.sha256} on the hub, "
                f"but {pinned} is pinned, so nothing was fetched; "
                "find out which is right, and correct the weights of its pin in the profile."
            )


def _check_room(pin: ModelPin, folder: Path, sizes: dict[str, int]) -> None:
    """Raise `ModelError` if the disk has too little room for the missing weights; partial downloads count."""
    missing = {name: size for name, size in sizes.items() if not (folder / name).exists()}
    parts = [folder / f"{name}.part" for name in missing]
    needed = sum(missing.values()) - sum(part.stat().st_size for part in parts if part.exists())
    free = shutil.disk_usage(folder).free
    if needed and needed + MARGIN > free:
        raise ModelError(
            f"Model '{pin.id}' needs {needed / 1e9:.1f} GB more, "
            f"but the disk of {folder.parent} has {free / 1e9:.1f} GB left; "
            "make room, or set HF_HOME to a folder on another disk."
        )


def _remote(pin: ModelPin, folder: Path, name: str, sha256: str, size: int) -> Remote:
    """A weight file at the address that the hub names.

    The token is sent only to the scheme and host of HF_ENDPOINT.
    """
    location = get_hf_file_metadata(hf_hub_url(pin.id, name, revision=pin.revision)).location
    is_on_the_hub = urlparse(location)[:2] == urlparse(constants.ENDPOINT)[:2]
    return Remote(
        url=location,
        path=folder / name,
        algorithm="sha256",
        hash=sha256,
        name=f"{pin.id}/{name}",
        hint="use the offline profile, VDM_PROFILE=demo",
        error_type=ModelError,
        size=size,
        timeout_s=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        headers=build_hf_headers() if is_on_the_hub else {},
    )


class SilentBar(tqdm):
    """A hidden progress bar: the descriptions are a few small files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"disable": True})
