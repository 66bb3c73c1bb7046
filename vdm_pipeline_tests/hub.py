"""A model hub on this machine: what a download needs of the Hugging Face hub's protocol, and plain files, with faults on demand."""

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
"""Endings of what a hub keeps as large files, whose sha256 it tells."""
CHUNK = 2**20


@dataclass
class Fault:
    """What happens to requests whose path has ``where`` in it, so many ``times``."""

    kind: str
    """``cut``: hangs up half-way; ``stall``: stops half-way for long; ``corrupt``: one other byte; ``vast``: tells an absurd size;
    ``page``: sends a network's login page; else an HTTP status, and after a blank the hub's own code for the cause."""
    where: str = ""
    times: int = 1_000_000


@dataclass
class Hub:
    """Repositories, by id, at the one commit that they have, and plain files under ``files``."""

    repositories: dict[str, Path]
    files: Path | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Methods, paths, ranges and tokens of the requests."""
    url: str = ""

    def fault(self, path: str, *kinds: str) -> Fault | None:
        """The fault that this request is to meet, of some kinds or, without any, of an HTTP status."""
        for fault in self.faults:
            fits = fault.kind in kinds if kinds else fault.kind[:3].isdigit()
            if fits and fault.times and fault.where in path:
                fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        """Of a file: its size, its hash and its commit."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A file or a part of one, or the list of a repository's files."""
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(
            " ".join(
                filter(
                    None, (self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
                )
            )
        )
        refused = self.hub.fault(path)
        if refused:
            return self._refuse(*refused.kind.split(" ", 1))
        if self.hub.fault(path, "page"):
            return self._whole(b"<html>log in</html>", "text/html")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(\w+)", path):
            return self._tree(*match.groups())
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            return self._resolve(path, match[1], self._find(*match.groups()), match[3], body)
        if match := re.fullmatch(r"/weights/([^/]+/[^/]+)/(.+)", path):
            return self._file(path, self._find(match[1], COMMIT, match[2]), body)
        self._file(path, self.hub.files / path[1:] if self.hub.files else None, body)

    def _find(self, repository: str, commit: str, name: str) -> Path | None:
        folder = self.hub.repositories.get(repository)
        return folder / name if folder and commit == COMMIT else None

    def _tree(self, repository: str, commit: str) -> None:
        folder = self.hub.repositories.get(repository)
        if folder is None:
            return self._refuse("404", "RepoNotFound")
        if commit != COMMIT:
            return self._refuse("404", "RevisionNotFound")
        entries = [self._entry(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
        self._whole(json.dumps(entries).encode(), "application/json")

    def _whole(self, content: bytes, kind: str) -> None:
        self._head(200, {"Content-Type": kind, "Content-Length": len(content)})
        self.wfile.write(content if self.command == "GET" else b"")

    def _entry(self, folder: Path, path: Path) -> dict:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        size = 10**18 if self.hub.fault(name, "vast") else size
        entry = {"type": "file", "path": name, "size": size, "oid": hashlib.sha1(name.encode()).hexdigest()}
        large = {"oid": file_sha256(path), "size": size, "pointerSize": 134}
        return entry | ({"lfs": large} if path.suffix in WEIGHTS else {})

    def _resolve(self, path: str, repository: str, file: Path | None, name: str, body: bool) -> None:
        """Of weights, where another server keeps them: the hub's own sends descriptions alone."""
        if file is None or not file.is_file() or file.suffix not in WEIGHTS:
            return self._file(path, file, body)
        size = 10**18 if self.hub.fault(path, "vast") else file.stat().st_size
        elsewhere = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/weights/{repository}/{name}"
        linked = {
            "X-Linked-Size": size,
            "X-Linked-ETag": f'"{file_sha256(file)}"',
            "X-Repo-Commit": COMMIT,
            "Location": elsewhere,
        }
        self._head(302, linked | {"Content-Length": 0})

    def _file(self, path: str, file: Path | None, body: bool) -> None:
        if file is None or not file.is_file():
            return self._refuse("404", "EntryNotFound")
        size = file.stat().st_size
        wish = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wish[1]) if wish else 0
        if start >= size and wish:
            return self._refuse("416")
        sent = {
            "Content-Length": size - start,
            "ETag": f'"{file_sha256(file)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if wish:
            sent["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._head(206 if wish else 200, sent)
        if body:
            self._send(path, file, start, size)

    def _send(self, path: str, file: Path, start: int, size: int) -> None:
        """The bytes from ``start`` on, as far as no fault stops them."""
        broken, corrupt = self.hub.fault(path, "cut", "stall"), self.hub.fault(path, "corrupt")
        stop = start + (size - start) // 2 if broken else size
        with file.open("rb") as source:
            source.seek(start)
            while (at := source.tell()) < stop:
                data = bytearray(source.read(min(CHUNK, stop - at)))
                if corrupt and at <= size // 2 < at + len(data):
                    data[size // 2 - at] ^= 1
                self.wfile.write(data)
        if broken:
            self.wfile.flush()
            time.sleep(60 if broken.kind == "stall" else 0)
            self.close_connection = True
            self.connection.close()

    def _refuse(self, status: str, code: str = "") -> None:
        self._head(int(status), {"Content-Length": 0} | ({"X-Error-Code": code} if code else {}))

    def _head(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *args) -> None:
        """Stay quiet."""


@contextmanager
def serving(
    repositories: dict[str, Path], files: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Hub]:
    """The hub, on a port of this machine; with ``tls`` it is spoken to by https."""
    hub = Hub(repositories, files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Handler,), {"hub": hub}))
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
