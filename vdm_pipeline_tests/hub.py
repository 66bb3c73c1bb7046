"""A fake model hub: the part of the Hugging Face protocol that downloads need, and faults on demand."""

import hashlib
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlparse

from vdm_pipeline.io.hashing import file_sha256

COMMIT = "c0ffee" * 6 + "c0ff"
WEIGHTS = (".safetensors", ".bin", ".npz")
"""Suffixes of large files, whose sha256 a hub reports."""
CHUNK = 2**20


@dataclass
class Fault:
    """A fault of the requests whose path contains ``path_part``, at most ``times`` times."""

    kind: str
    """``cut``: closes the connection half-way; ``stall``: stops half-way for a minute; ``corrupt``: changes a
    byte; ``vast``: reports an absurd size; ``page``: sends a login page; else an HTTP status, then a blank
    and the hub's error code."""
    path_part: str = ""
    times: int = 1_000_000


@dataclass
class Hub:
    """Repositories by id, each with the single commit `COMMIT`, and plain files under ``files``."""

    repositories: dict[str, Path]
    files: Path | None = None
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """Method, path, range and token of each request."""
    url: str = ""

    def fault(self, path: str, *kinds: str) -> Fault | None:
        """The next fault of this path, of the given kinds; without kinds, an HTTP status."""
        for fault in self.faults:
            matches = fault.kind in kinds if kinds else fault.kind[:3].isdigit()
            if matches and fault.times and fault.path_part in path:
                fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """Responds like the hub."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        """Size, hash and commit of a file."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A file, a range of it, or the list of a repository's files."""
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        parts = (self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
        self.hub.requests.append(" ".join(part for part in parts if part))
        fault = self.hub.fault(path)
        if fault:
            return self._send_error(*fault.kind.split(" ", 1))
        if self.hub.fault(path, "page"):
            return self._send_content(b"<html>log in</html>", "text/html")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(\w+)", path):
            return self._send_tree(*match.groups())
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            return self._send_resolved(path, match[1], self._find(*match.groups()), match[3], body)
        if match := re.fullmatch(r"/weights/([^/]+/[^/]+)/(.+)", path):
            return self._send_file(path, self._find(match[1], COMMIT, match[2]), body)
        self._send_file(path, self.hub.files / path[1:] if self.hub.files else None, body)

    def _find(self, repository: str, commit: str, name: str) -> Path | None:
        folder = self.hub.repositories.get(repository)
        return folder / name if folder and commit == COMMIT else None

    def _send_tree(self, repository: str, commit: str) -> None:
        folder = self.hub.repositories.get(repository)
        if folder is None:
            return self._send_error("404", "RepoNotFound")
        if commit != COMMIT:
            return self._send_error("404", "RevisionNotFound")
        entries = [self._entry(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
        self._send_content(json.dumps(entries).encode(), "application/json")

    def _send_content(self, content: bytes, content_type: str) -> None:
        self._send_head(200, {"Content-Type": content_type, "Content-Length": len(content)})
        self.wfile.write(content if self.command == "GET" else b"")

    def _entry(self, folder: Path, path: Path) -> dict:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        size = 10**18 if self.hub.fault(name, "vast") else size
        entry = {"type": "file", "path": name, "size": size, "oid": hashlib.sha1(name.encode()).hexdigest()}
        large = {"oid": file_sha256(path), "size": size, "pointerSize": 134}
        return entry | ({"lfs": large} if path.suffix in WEIGHTS else {})

    def _send_resolved(self, path: str, repository: str, file: Path | None, name: str, body: bool) -> None:
        """Redirect weights to another host name, as the hub does; send descriptions directly."""
        if file is None or not file.is_file() or file.suffix not in WEIGHTS:
            return self._send_file(path, file, body)
        size = 10**18 if self.hub.fault(path, "vast") else file.stat().st_size
        location = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/weights/{repository}/{name}"
        headers = {
            "Content-Length": 0,
            "X-Linked-Size": size,
            "X-Linked-ETag": f'"{file_sha256(file)}"',
            "X-Repo-Commit": COMMIT,
            "Location": location,
        }
        self._send_head(302, headers)

    def _send_file(self, path: str, file: Path | None, body: bool) -> None:
        if file is None or not file.is_file():
            return self._send_error("404", "EntryNotFound")
        size = file.stat().st_size
        requested = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(requested[1]) if requested else 0
        if requested and start >= size:
            return self._send_error("416")
        headers = {
            "Content-Length": size - start,
            "ETag": f'"{file_sha256(file)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if requested:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._send_head(206 if requested else 200, headers)
        if body:
            self._send_bytes(path, file, start, size)

    def _send_bytes(self, path: str, file: Path, start: int, size: int) -> None:
        """The bytes from ``start`` on, until a fault stops them."""
        interruption = self.hub.fault(path, "cut", "stall")
        corrupt = self.hub.fault(path, "corrupt")
        stop = start + (size - start) // 2 if interruption else size
        with file.open("rb") as source:
            source.seek(start)
            while (at := source.tell()) < stop:
                data = bytearray(source.read(min(CHUNK, stop - at)))
                if corrupt and at <= size // 2 < at + len(data):
                    data[size // 2 - at] ^= 1
                self.wfile.write(data)
        if interruption:
            self.wfile.flush()
            time.sleep(60 if interruption.kind == "stall" else 0)
            self.close_connection = True
            self.connection.close()

    def _send_error(self, status: str, code: str = "") -> None:
        self._send_head(int(status), {"Content-Length": 0} | ({"X-Error-Code": code} if code else {}))

    def _send_head(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *args) -> None:
        """Log nothing."""


@contextmanager
def serving(
    repositories: dict[str, Path], files: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Hub]:
    """Run the fake hub on a local port, with ``tls`` over https."""
    hub = Hub(repositories, files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    server.block_on_close = False
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    hub.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
