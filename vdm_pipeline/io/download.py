"""Download one file: resumable, checked against its hash, and moved into place when it is complete."""

import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal
from urllib import request
from urllib.error import HTTPError

from vdm_pipeline.errors import ArchiveError, NetworkError, PipelineError
from vdm_pipeline.io.atomic import replace_path
from vdm_pipeline.io.disk import NO_SPACE, READ_ONLY
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.io.network import proxies, ssl_context
from vdm_pipeline.io.progress import Log, Throttle

CHUNK = 2**20
"""Bytes of one read at most. What arrived before a server stops sending is kept."""
MAX_BYTES = 4 * 2**30
"""Limit for a file of unknown size."""
ATTEMPTS = 4
RETRY_WAIT_S = 2.0
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Remote:
    """A file at ``url`` with a known ``hash``, to be stored at ``path``."""

    url: str
    path: Path
    algorithm: Literal["md5", "sha256"]
    hash: str
    name: str = ""
    """Name in messages; the path without it."""
    hint: str = "fetch the file yourself"
    """What else the user can do, as the end of an error message."""
    error_type: type[PipelineError] = ArchiveError
    """Raised if the server refuses the file or sends a wrong one."""
    size: int | None = None
    """Bytes, if known. A response of another size is not accepted."""
    timeout_s: float | None = None
    """Longest wait for data; `TIMEOUT_S` by default."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent to the server of ``url`` only, never to one that it redirects to; may contain a token."""

    @property
    def part(self) -> Path:
        """The partial download."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def label(self) -> str:
        """Short name for log lines."""
        return self.name or self.path.name

    def failure(self, what: str) -> str:
        """An error message: the file, what went wrong, the hint."""
        return f"{self.name or self.path}: the download from {self.url} {what}{self.hint}."


def fetch(remote: Remote, log: Log) -> None:
    """Download to ``<path>.part``, which a later call resumes, and rename it when it is complete.

    Raises `NetworkError` if the server cannot be reached or disconnects (the part is kept);
    ``remote.error_type`` if the server refuses the file, or if its hash is wrong (the part is removed);
    ``OSError`` if the disk is full or read-only.
    """
    remote.part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            received = _receive_rest(remote, log)
            _check_hash(remote, received=received)
            break
        except (OSError, HTTPException) as error:
            _raise_if_final(remote, error, last_attempt=attempt == ATTEMPTS - 1)
            log(f"{remote.label}: {error}; retrying")
            time.sleep(RETRY_WAIT_S * (attempt + 1))
    replace_path(remote.part, remote.path)


def _raise_if_final(remote: Remote, error: OSError | HTTPException, *, last_attempt: bool) -> None:
    """Raise what `fetch` documents for an error that another attempt cannot solve, or after the last one."""
    if getattr(error, "errno", None) in (*NO_SPACE, *READ_ONLY):
        raise error
    if isinstance(error, HTTPError) and 400 <= error.code < 500 and error.code not in (408, 429):
        raise remote.error_type(remote.failure(f"was refused ({error}); ")) from None
    if last_attempt:
        raise NetworkError(remote.failure(f"failed ({error}); run again to resume it, or ")) from None


def _check_hash(remote: Remote, *, received: bool) -> None:
    """Remove a part with a wrong hash.

    Raises ``remote.error_type`` if some of it was just ``received``. A part that was complete before the
    request may be of another file, so it raises ``ConnectionError``, after which `fetch` starts again.
    """
    actual = digest(remote.part, remote.algorithm)
    if actual == remote.hash:
        return
    remote.part.unlink()
    if not received:
        raise ConnectionError("the partial download had a wrong hash and was removed")
    hashes = f"{remote.algorithm.upper()} {actual} instead of {remote.hash}"
    raise remote.error_type(remote.failure(f"has {hashes} and was removed; run again, or "))


def _receive_rest(remote: Remote, log: Log) -> bool:
    """Append the missing bytes to the part; False if the server has no more than the part.

    Raises ``OSError`` or ``HTTPException`` if the response is not the rest of the file.
    """
    part_size = remote.part.stat().st_size if remote.part.exists() else 0
    response = _open(remote, part_size)
    if response is None:
        return False
    with response:
        start = _body_start(remote, response, part_size)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if remote.size is not None and total not in (None, remote.size):
            raise ConnectionError(f"the server sent a file of {total} bytes instead of {remote.size}")
        received = _write_body(remote, response, start, _DownloadLog(remote.label, start, total, log))
    if total is not None and received != total:
        raise ConnectionError(f"the connection ended after {received} of {total} bytes")
    return True


def _open(remote: Remote, part_size: int) -> HTTPResponse | None:
    """Request the bytes after the first ``part_size``; None if there are none."""
    range_header = {"Range": f"bytes={part_size}-"} if part_size else {}
    http_request = request.Request(remote.url, headers=range_header)
    for key, value in remote.headers.items():
        http_request.add_unredirected_header(key, value)
    try:
        return _http_opener().open(http_request, timeout=remote.timeout_s or TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:  # range not satisfiable: the part has all bytes, or more
            raise
        return None


def _body_start(remote: Remote, response: HTTPResponse, part_size: int) -> int:
    """Position in the file where the response starts: ``part_size``, or 0 if the server ignored the range.

    Raises ``ConnectionError`` and removes the part if the response is another range.
    """
    if response.status != 206:
        return 0
    if not re.match(rf"bytes {part_size}-", response.headers.get("Content-Range", "")):
        remote.part.unlink(missing_ok=True)
        raise ConnectionError("the server sent another range than the requested one")
    return part_size


def _write_body(remote: Remote, response: HTTPResponse, start: int, report: "_DownloadLog") -> int:
    """Write the response to the part from ``start`` on, and return the size of the part.

    Stops after the file's size or `MAX_BYTES`, so that an endless response does not fill the disk.
    """
    size, limit = start, remote.size or MAX_BYTES
    with remote.part.open("ab" if start else "wb") as file:
        while size <= limit:
            data = response.read1(CHUNK)
            if not data:
                break
            file.write(data)
            size += len(data)
            report(size)
        os.fsync(file.fileno())
    return size


class _DownloadLog:
    """Logs the progress of a download after every 5 % and every 5 s."""

    def __init__(self, label: str, start: int, total: int | None, log: Log) -> None:
        self.label, self.total, self.log = label, total, log
        self.step = total / 20 if total else math.inf
        self.logged, self.throttle = start, Throttle(5)

    def __call__(self, size: int) -> None:
        """Report that ``size`` bytes are on disk."""
        if self.throttle.due(done=size - self.logged >= self.step or size == self.total):
            self.logged = size
            share = f" of {self.total / 1e6:.1f} ({100 * size // self.total} %)" if self.total else ""
            self.log(f"{self.label}: {size / 1e6:.1f} MB{share}")


def _http_opener() -> request.OpenerDirector:
    """An opener for http and https only, also after a redirect. The default one opens file: and ftp: too."""
    opener = request.OpenerDirector()
    opener.add_handler(request.ProxyHandler(proxies()))
    opener.add_handler(request.HTTPSHandler(context=ssl_context()))
    for handler in (
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
