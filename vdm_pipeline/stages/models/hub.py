"""A repository of a model hub at its pinned commit, as a folder of our own: fetched once, gone on with where it broke off, hashed.

Listing, consent, tokens and offline mode are `huggingface_hub`'s, and what lies in its cache is taken from there. The weights,
which are gigabytes, are fetched by us: it begins a file anew when its process was killed, and takes what a server sends for what
was asked for. Its cache is shared with other programs, so nothing in there is changed.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from httpx2 import InvalidURL, UnsupportedProtocol
from huggingface_hub import (
    HfApi,
    cached_assets_path,
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, tqdm

from vdm_pipeline.errors import ModelError, NetworkError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.disk import FULL
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import file_sha256, folder_hashes
from vdm_pipeline.io.lock import locked
from vdm_pipeline.io.network import check_way
from vdm_pipeline.settings import ModelPin

FAULTS = (HTTPError, InvalidURL, OSError, HFValidationError, json.JSONDecodeError)
"""What `huggingface_hub` and its HTTP client raise where a hub, the way to it or an id is at fault; the last is of a login page."""
Log = Callable[[str], None]

DESCRIPTIONS = ("*.json", "*.txt")
"""Files without weights that are fetched: configurations and vocabularies."""
RECORD = ".fetched.json"
"""Sha256 of each file as it was fetched; written last."""
SLACK = 50 * 2**20
"""Bytes left free beside the weights, for what describes them."""


def fetch_repository(pin: ModelPin, log: Log) -> Path:
    """Folder with the pinned weights and what describes them, nothing else; asked of the hub if it is not there or was changed.

    Raises `NetworkError` if the hub cannot be reached or breaks off (what arrived is kept), and `ModelError` if it refuses,
    forbids, lacks a file or has another than the pinned one, or there is no room; ``OSError`` if the disk is full.
    """
    name = f"{pin.id.replace('/', '--')}--{pin.revision}"
    with _told(pin.id, pin.revision):
        place = Path(cached_assets_path("vdm_pipeline", namespace="models", subfolder=name))
        with locked(
            place.with_name(f".{name}.lock"),
            {},
            lambda _: log(f"{pin.id}: another process fetches it; waiting for it"),
        ):
            if not _is_intact(pin, place):
                _fetch(pin, place, log)
    return place


def weights_at(repository: str, revision: str) -> dict[str, str]:
    """Sha256 of each large file of a repository, as its hub tells it: what a pin is first made from."""
    with _told(repository, revision):
        return {file.path: str(file.lfs.sha256) for file in _listed(repository, revision) if file.lfs}


def _is_intact(pin: ModelPin, place: Path) -> bool:
    """Whether the folder has the pinned weights, and all other files are as they were fetched."""
    try:
        fetched = json.loads((place / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return fetched == folder_hashes(place) and fetched.items() >= (pin.weights or {}).items()


def _fetch(pin: ModelPin, place: Path, log: Log) -> None:
    """Bring the folder to what the pin asks for: remove what is not of it, take what lies in the hub's cache, fetch the rest."""
    weights = pin.weights or {}
    for name, digest in folder_hashes(place).items():
        if weights.get(name) != digest:
            (place / name).unlink()
    _take_from_cache(pin, place)
    if not (
        constants.HF_HUB_OFFLINE and _has_all(pin, place)
    ):  # the last word on descriptions is the hub's, if it may be asked
        files = {file.path: file for file in _listed(pin.id, pin.revision)}
        _check_listed(pin, files)
        _fetch_descriptions(pin, place)
        sizes = {
            name: file.lfs.size if file.lfs else file.size for name, file in files.items() if name in weights
        }
        _check_room(pin, place, sizes)
        for name, digest in weights.items():
            if not (place / name).exists():
                fetch(_remote(pin, place, name, digest, sizes[name]), log)
    write_text(place / RECORD, json.dumps(folder_hashes(place), indent=1))


def _fetch_descriptions(pin: ModelPin, place: Path) -> None:
    try:
        snapshot_download(
            pin.id,
            revision=pin.revision,
            allow_patterns=list(DESCRIPTIONS),
            local_dir=place,
            tqdm_class=Silent,
        )
    except (
        RuntimeError,
        ValueError,
    ) as error:  # the plain ones that it, and `hf_xet` for large files, have for a network's faults
        raise ConnectionError(str(error)) from error
    shutil.rmtree(place / ".cache", ignore_errors=True)  # the hub's own notes on these files


def _has_all(pin: ModelPin, place: Path) -> bool:
    names = set(folder_hashes(place))
    return names >= set(pin.weights or {}) and any(name not in (pin.weights or {}) for name in names)


def _take_from_cache(pin: ModelPin, place: Path) -> None:
    """What other programs, or ``hf download``, fetched at this commit: the pinned weights, if they are that, and descriptions."""
    weights = pin.weights or {}
    try:
        patterns = [*weights, *DESCRIPTIONS]
        cache = Path(
            snapshot_download(pin.id, revision=pin.revision, allow_patterns=patterns, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        name = path.relative_to(cache).as_posix()
        described = any(path.match(pattern) for pattern in DESCRIPTIONS)
        if not (place / name).exists() and (
            described or (name in weights and file_sha256(path) == weights[name])
        ):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path.resolve(), place / name)


def _link_or_copy(source: Path, target: Path) -> None:
    """The same bytes, in the same place on the disk where that can be: gigabytes are not stored twice."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _listed(repository: str, revision: str | None) -> list[RepoFile]:
    check_way()
    entries = HfApi().list_repo_tree(repository, revision=revision, recursive=True)
    return [entry for entry in entries if isinstance(entry, RepoFile)]


def _check_listed(pin: ModelPin, files: dict[str, RepoFile]) -> None:
    """Raise `ModelError` if a pinned file is not in the repository, or is another by the hub's own account."""
    for name, digest in (pin.weights or {}).items():
        if name not in files:
            raise ModelError(
                f"'{pin.id}' at {pin.revision} has no file '{name}'; correct the weights of its pin in the profile."
            )
        told = files[name].lfs
        if told and told.sha256 != digest:
            raise ModelError(
                f"'{name}' of '{pin.id}' at {pin.revision} has sha256 {told.sha256} at the hub, but {digest} is pinned; "
                "nothing was fetched: find out which is right, and correct the weights of its pin in the profile."
            )


def _check_room(pin: ModelPin, place: Path, sizes: dict[str, int]) -> None:
    """Raise `ModelError` if the disk has no room for what is lacking."""
    parts = {name: place / f"{name}.part" for name in sizes}
    have = {name: part.stat().st_size if part.exists() else 0 for name, part in parts.items()}
    needed = sum(size - have[name] for name, size in sizes.items() if not (place / name).exists())
    free = shutil.disk_usage(place).free
    if needed and needed + SLACK > free:
        raise ModelError(
            f"Model '{pin.id}' takes {needed / 1e9:.1f} GB more, and the disk of {place.parent} has {free / 1e9:.1f} GB left; "
            "make room, or set HF_HOME to a folder on another disk."
        )


def _remote(pin: ModelPin, place: Path, name: str, digest: str, size: int) -> Remote:
    """A weight file where the hub says that its bytes lie; the token is for the hub alone, and not for a plain http of its name."""
    found = get_hf_file_metadata(hf_hub_url(pin.id, name, revision=pin.revision))
    is_the_hubs = urlparse(found.location)[:2] == urlparse(constants.ENDPOINT)[:2]
    return Remote(
        url=found.location,
        path=place / name,
        kind="sha256",
        hash=digest,
        name=f"{pin.id}/{name}",
        hint="take the offline profile, VDM_PROFILE=demo",
        refusal=ModelError,
        size=size,
        timeout_s=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        headers=build_hf_headers() if is_the_hubs else {},
    )


class Silent(tqdm):
    """A bar that is not shown: a handful of small files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"disable": True})


@contextmanager
def _told(repository: str, revision: str | None) -> Iterator[None]:
    """One sentence for whatever a hub, the way to it, or the folder may do; a full disk passes."""
    hub, model = constants.ENDPOINT, f"Model '{repository}' at {revision}"
    try:
        yield
    except FAULTS as error:
        number = getattr(error, "errno", None)
        if number in FULL:
            raise
        if number is not None and not isinstance(error, ConnectionError | TimeoutError):
            where = getattr(error, "filename", None) or constants.HF_HOME
            raise ModelError(
                f"{model}: {where}: {os.strerror(number)}; make it writable, or set HF_HOME to a folder that is."
            ) from error
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        hint = _hint(cause, repository, status)
        if hint:
            raise ModelError(f"{model}: {hint}") from error
        raise NetworkError(
            f"Model '{repository}' could not be fetched from {hub} ({status or type(cause).__name__}); what arrived is "
            "kept: check the network and run again to go on, or take the offline profile, VDM_PROFILE=demo."
        ) from error


def _hint(error: BaseException, repository: str, status: int | None) -> str | None:
    """What is wrong and what to do, where asking again does not help."""
    hub = constants.ENDPOINT
    if isinstance(error, HFValidationError):
        return "that is no id of a hub's repository; correct it."
    if isinstance(error, InvalidURL | UnsupportedProtocol):
        return f"HF_ENDPOINT is '{hub}', which is no http or https address; correct it, or unset it."
    if isinstance(error, OfflineModeIsEnabled):
        return f"it is not whole in {constants.HF_HOME}, and HF_HUB_OFFLINE forbids to fetch it; unset that, or copy the folder there."
    if isinstance(error, GatedRepoError):
        return f"its owners ask for consent; give it on {hub}/{repository}, and set HF_TOKEN to a token of yours."
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub} has no such repository, or it is private; correct the id (some were renamed or deleted), or set HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"{hub} has no such commit of it; correct the revision of its pin."
    if status in (401, 403):
        return f"{hub} does not accept HF_TOKEN ({status}); renew it, or unset it."
    again = status is None or status in (408, 429) or status >= 500
    return None if again else f"{hub} answers {status}; check its pin."
