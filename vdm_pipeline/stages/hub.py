"""A repository of a model hub at its pinned commit, as a folder: fetched once, gone on with where it broke off, every weight hashed.

Listing, consent, cache and offline mode are `huggingface_hub`'s. The weights alone, which are gigabytes, are fetched by us into its
cache: it begins a file anew when its process was killed, and takes what a server sends for what was asked for.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, tqdm

from vdm_pipeline.errors import ModelError, NetworkError
from vdm_pipeline.io.disk import CLOSED, FULL
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.lock import locked
from vdm_pipeline.io.manifest import file_sha256
from vdm_pipeline.settings import ModelPin

Log = Callable[[str], None]

DESCRIPTIONS = ("*.json", "*.txt")
"""Files without weights that are fetched: configurations and vocabularies."""
MOST = 2**40
"""Bytes of a weight file."""


def fetch_repository(pin: ModelPin, log: Log) -> Path:
    """Folder of the hub's cache with the pinned weights and what describes them, nothing else; asked of the hub if not there.

    Raises `NetworkError` if the hub cannot be reached or breaks off (what arrived is kept), and `ModelError` if it refuses,
    forbids, lacks a file, there is no room, or a weight file is not the pinned one (which is removed).
    """
    folder = _cached(pin)
    if folder is None:
        with _told(pin.id, pin.revision):
            _check_room(pin, log)
            _fetch_weights(pin, log)
            folder = Path(snapshot_download(pin.id, revision=pin.revision, allow_patterns=_wanted(pin), tqdm_class=Silent))
    for name, digest in (pin.weights or {}).items():
        _check(pin, folder / name, name, digest)
    return folder


def weights_at(repository: str, revision: str) -> dict[str, str]:
    """Sha256 of each large file of a repository, as its hub tells it: what a pin is first made from."""
    with _told(repository, revision):
        files = HfApi().list_repo_tree(repository, revision=revision, recursive=True)
        return {file.path: str(file.lfs.sha256) for file in files if isinstance(file, RepoFile) and file.lfs}


def _wanted(pin: ModelPin) -> list[str]:
    return [*(pin.weights or {}), *DESCRIPTIONS]


def _cached(pin: ModelPin) -> Path | None:
    """The folder if all of it is there; then no hub is asked."""
    try:
        folder = Path(snapshot_download(pin.id, revision=pin.revision, allow_patterns=_wanted(pin), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if all((folder / name).is_file() for name in pin.weights or {}) else None


def _check_room(pin: ModelPin, log: Log) -> None:
    """Raise `ModelError` if a pinned file is not in the repository, or the disk of the cache has no room for what is lacking."""
    files = snapshot_download(pin.id, revision=pin.revision, allow_patterns=_wanted(pin), tqdm_class=Silent, dry_run=True)
    lacking = set(pin.weights or {}) - {file.filename for file in files}
    if lacking:
        raise ModelError(f"'{pin.id}' at {pin.revision} has no file '{min(lacking)}'; correct the weights of its pin in the profile.")
    needed = sum(file.file_size or 0 for file in files if file.will_download)
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise ModelError(
            f"Model '{pin.id}' takes {needed / 1e9:.1f} GB, and the disk of {cache} has {free / 1e9:.1f} GB left; "
            "make room, or set HF_HOME to a folder on another disk."
        )
    log(f"{pin.id}: fetching {needed / 1e6:.1f} MB into {cache}")


def _check(pin: ModelPin, path: Path, name: str, digest: str) -> None:
    found = file_sha256(path)
    if found != digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)  # the link that led to it
        raise ModelError(
            f"'{name}' of model '{pin.id}' has sha256 {found}, but {digest} is pinned; it was removed, run again to fetch it anew."
        )


def _fetch_weights(pin: ModelPin, log: Log) -> None:
    """Put the lacking weights where the hub's cache keeps them, under the name of their sha256."""
    cache = Path(constants.HF_HUB_CACHE)
    folder = repo_folder_name(repo_id=pin.id, repo_type="model")
    for name, digest in (pin.weights or {}).items():
        blob, lock = cache / folder / "blobs" / digest, cache / ".locks" / folder / f"{digest}.part.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, {}, lambda _: log(f"{pin.id}: another process fetches its weights; waiting for it")):
            if not blob.exists():
                fetch(
                    Remote(
                        url=hf_hub_url(pin.id, name, revision=pin.revision),
                        path=blob,
                        kind="sha256",
                        hash=digest,
                        name=f"{pin.id}/{name}",
                        mend="take the offline profile, VDM_PROFILE=demo",
                        refusal=ModelError,
                        most=MOST,
                        timeout_s=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                        headers=build_hf_headers(),
                    ),
                    log,
                )


class Silent(tqdm):
    """A bar that is not shown: a handful of small files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"disable": True})


@contextmanager
def _told(repository: str, revision: str | None) -> Iterator[None]:
    """One sentence for whatever a hub, or the way to it, may answer; faults of the disk pass."""
    try:
        yield
    except (HTTPError, OSError) as error:
        if getattr(error, "errno", None) in (*FULL, *CLOSED):
            raise
        cause = error.__cause__ if isinstance(error, DryRunError | LocalEntryNotFoundError) and error.__cause__ else error
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        mend = _mend(cause, repository)
        if mend is None and (status is None or status in (408, 429) or status >= 500):
            raise NetworkError(
                f"Model '{repository}' could not be fetched from {constants.ENDPOINT} ({status or type(cause).__name__}); what arrived is "
                "kept: check the network and run again to go on, or take the offline profile, VDM_PROFILE=demo."
            ) from error
        mend = mend or f"{constants.ENDPOINT} answers {status}; check its pin."
        raise ModelError(f"Model '{repository}' at {revision}: {mend}") from error


def _mend(error: BaseException, repository: str) -> str | None:
    """What is wrong and what to do, where asking again does not help."""
    hub = constants.ENDPOINT
    if isinstance(error, OfflineModeIsEnabled):
        return f"it is not whole in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch it; unset that, or copy the folder there."
    if isinstance(error, GatedRepoError):
        return f"its owners ask for consent; give it on {hub}/{repository}, and set HF_TOKEN to a token of yours."
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub} has no such repository, or it is private; correct the id (some were renamed or deleted), or set HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"{hub} has no such commit of it; correct the revision of its pin."
    return None
