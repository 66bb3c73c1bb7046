"""One file from the web: resumed where it broke off, checked against its hash, in place only when it is whole."""

import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib import request
from urllib.error import HTTPError

from vdm_pipeline.errors import ArchiveError, NetworkError, PipelineError
from vdm_pipeline.io.atomic import replace_path
from vdm_pipeline.io.disk import CLOSED, FULL
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.io.network import proxies, trusted
from vdm_pipeline.stages.data.npz import MAX_BYTES

Log = Callable[[str], None]

CHUNK = 2**20
"""Bytes at most that are waited for at a time; what has come when a server falls silent is kept."""
TRIES = 4
RETRY_WAIT_S = 2.0
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Remote:
    """A file that lies at ``url`` and is to stand at ``path`` with a known ``hash``."""

    url: str
    path: Path
    kind: Literal["md5", "sha256"]
    hash: str
    name: str = ""
    """What people call it, if not by the path."""
    hint: str = "fetch the file yourself"
    """What else they can do."""
    refusal: type[PipelineError] = ArchiveError
    size: int | None = None
    """Bytes, where they are known; a server that sends another file is not listened to."""
    timeout_s: float | None = None
    """Of silence; `TIMEOUT_S` without."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent to the url's server alone, never to one that it redirects to; a token may be among them."""

    @property
    def part(self) -> Path:
        """What has arrived, until it is whole."""
        return self.path.with_name(f"{self.path.name}.part")


def fetch(remote: Remote, log: Log) -> None:
    """Download, by way of a `.part` file beside the path, which a later call goes on with.

    Raises `NetworkError` when the server cannot be reached or breaks off (the part stays), ``remote.refusal`` when it refuses, or
    the hash is wrong (the part is removed); ``OSError`` if the disk is full or closed.
    """
    name = remote.name or remote.path
    remote.part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        try:
            _check_part(remote, arrived=_fetch_rest(remote, log))
            break
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) in (*FULL, *CLOSED):
                raise
            final = isinstance(error, HTTPError) and 400 <= error.code < 500 and error.code not in (408, 429)
            if final or attempt == TRIES - 1:
                if final:
                    raise remote.refusal(
                        f"{name}: the download from {remote.url} is refused ({error}); {remote.hint}."
                    ) from None
                raise NetworkError(
                    f"{name}: the download from {remote.url} broke off ({error}); run again to go on where it stopped, or {remote.hint}."
                ) from None
            log(f"{remote.name or remote.path.name}: {error}; trying again")
            time.sleep(RETRY_WAIT_S * (attempt + 1))
    replace_path(remote.part, remote.path)


def _check_part(remote: Remote, *, arrived: bool) -> None:
    """Remove a part of another hash: refuse what has just arrived; a part that the server had nothing to add to is fetched anew."""
    found = digest(remote.part, remote.kind)
    if found == remote.hash:
        return
    remote.part.unlink()
    if not arrived:
        raise ConnectionError("the part that was there does not fit and was dropped")
    raise remote.refusal(
        f"{remote.name or remote.path}: the download from {remote.url} has {remote.kind.upper()} {found} instead of {remote.hash} "
        f"and was removed; run again to fetch it anew, or {remote.hint}."
    )


def _fetch_rest(remote: Remote, log: Log) -> bool:
    """Ask for what the part lacks and append it, and whether there was any; a server that sends everything anyway starts it anew."""
    part = remote.part
    have = part.stat().st_size if part.exists() else 0
    wish = request.Request(remote.url, headers={"Range": f"bytes={have}-"} if have else {})
    for key, value in remote.headers.items():
        wish.add_unredirected_header(key, value)
    try:
        response = _http_only().open(wish, timeout=remote.timeout_s or TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:  # 416: the server has nothing beyond our end
            raise
        return False
    with response:
        resumed = (
            re.match(rf"bytes {have}-", response.headers.get("Content-Range", ""))
            if response.status == 206
            else None
        )
        if response.status == 206 and not resumed:
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another range than the one asked for")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if remote.size is not None and total not in (None, remote.size):
            raise ConnectionError(f"the server sent a file of {total} bytes instead of {remote.size}")
        report = _progress(remote.name or remote.path.name, have, total, log)
        with part.open("ab" if resumed else "wb") as file:
            while (data := response.read1(CHUNK)) and have <= (remote.size or MAX_BYTES):
                file.write(data)
                have += len(data)
                report(have)
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")
    return True


def _progress(name: str, have: int, total: int | None, log: Log) -> Callable[[int], None]:
    """A function that logs where the download stands: after a further 5 %, or 5 s."""
    last = [have, time.monotonic()]

    def report(now: int) -> None:
        step = total / 20 if total else math.inf
        if now - last[0] >= step or time.monotonic() - last[1] >= 5 or now == total:
            last[:] = now, time.monotonic()
            log(
                f"{name}: {now / 1e6:.1f} MB"
                + (f" of {total / 1e6:.1f} ({100 * now // total} %)" if total else "")
            )

    return report


def _http_only() -> request.OpenerDirector:
    """An opener that knows http and https alone, also after a redirect; urllib's own opens file: and ftp: too."""
    opener = request.OpenerDirector()
    opener.add_handler(request.ProxyHandler(proxies()))
    opener.add_handler(request.HTTPSHandler(context=trusted()))
    for name in (
        "UnknownHandler",
        "HTTPHandler",
        "HTTPDefaultErrorHandler",
        "HTTPRedirectHandler",
        "HTTPErrorProcessor",
    ):
        opener.add_handler(getattr(request, name)())
    return opener
