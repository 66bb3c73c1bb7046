"""Turn the errors of `huggingface_hub` and its HTTP client into one sentence with a hint."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from httpx2 import InvalidURL, UnsupportedProtocol
from huggingface_hub import constants
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

from vdm_pipeline.errors import ModelError, NetworkError
from vdm_pipeline.io.disk import NO_SPACE

HUB_ERRORS = (HTTPError, InvalidURL, OSError, HFValidationError, json.JSONDecodeError)
"""Errors caused by a hub, the network or a wrong id. A login page instead of JSON raises the last one."""


@contextmanager
def translate_hub_errors(repository: str, revision: str) -> Iterator[None]:
    """Raise `ModelError` or `NetworkError` for errors of the hub, the network or the cache folder.

    A full disk passes as ``OSError``.
    """
    try:
        yield
    except HUB_ERRORS as error:
        number = getattr(error, "errno", None)
        if number in NO_SPACE:
            raise
        if number is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise _cache_error(error, number, repository, revision) from error
        raise _hub_error(error, repository, revision) from error


def _cache_error(error: Exception, number: int, repository: str, revision: str) -> ModelError:
    path = getattr(error, "filename", None) or constants.HF_HOME
    return ModelError(
        f"Model '{repository}' at {revision}: {path}: {os.strerror(number)}; "
        "make it writable, or set HF_HOME to a writable folder."
    )


def _hub_error(error: Exception, repository: str, revision: str) -> ModelError | NetworkError:
    """`ModelError` with a hint if another attempt cannot help, else `NetworkError`."""
    cause: BaseException = error
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:
        cause = error.__cause__
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    hint = _hint(cause, repository, status)
    if hint:
        return ModelError(f"Model '{repository}' at {revision}: {hint}")
    return NetworkError(
        f"Model '{repository}' could not be fetched from {constants.ENDPOINT} "
        f"({status or type(cause).__name__}); check the network and run again to resume, "
        "or use the offline profile, VDM_PROFILE=demo."
    )


def _hint(error: BaseException, repository: str, status: int | None) -> str | None:
    """The problem and its fix, or None if another attempt may help."""
    hub = constants.ENDPOINT
    if isinstance(error, HFValidationError):
        return "this is not a valid id of a hub repository; correct it."
    if isinstance(error, InvalidURL | UnsupportedProtocol):
        return f"HF_ENDPOINT is '{hub}', which is not an http or https address; correct it, or unset it."
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"it is incomplete in {constants.HF_HOME}, and HF_HUB_OFFLINE forbids the download; "
            "unset HF_HUB_OFFLINE, or copy the folder there."
        )
    if isinstance(error, GatedRepoError):
        return f"it is gated; accept its terms on {hub}/{repository}, and set HF_TOKEN to your token."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{hub} has no such repository, or it is private; "
            "correct the id (some were renamed or deleted), or set HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{hub} has no such commit of this repository; correct the revision of its pin."
    if status in (401, 403):
        return f"{hub} does not accept HF_TOKEN ({status}); renew it, or unset it."
    may_recover = status is None or status in (408, 429) or status >= 500
    return None if may_recover else f"{hub} answers {status}; check its pin."
