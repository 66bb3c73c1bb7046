"""Downloads against a server on this machine that hangs up, lies about ranges, refuses and redirects."""

import errno
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError, NetworkError, PipelineError
from vdm_pipeline.io import download
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import digest

BODY = np.random.default_rng(0).bytes(9000)
MD5 = hashlib.md5(BODY).hexdigest()


def fetched(server: SimpleNamespace, folder: Path, log: Callable[[str], None] = lambda line: None) -> bytes:
    """Fetch the server's file and return what arrived."""
    fetch(Remote(server.url, folder / "a.npz", "md5", MD5), log)
    return (folder / "a.npz").read_bytes()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.body`; `server.drops` lists after how many bytes to hang up, one entry a request."""

    def do_GET(self) -> None:
        """Answer with all, a range, 416, or whatever `server.answer` is."""
        server, wish = self.server, self.headers.get("Range")
        server.ranges.append(wish)
        start = int(re.match(r"bytes=(\d+)-", wish)[1]) if wish and server.with_ranges else 0
        if server.answer:
            self.send_response(server.answer)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if wish and server.with_ranges and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.end_headers()
            return
        partial = wish is not None and server.with_ranges
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header(
                "Content-Range", f"bytes {start + server.shift}-{len(server.body) - 1}/{len(server.body)}"
            )
        if server.with_length:
            self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        stop = start + server.drops.pop(0) if server.drops else None
        self.wfile.write(server.body[start:stop])
        time.sleep(server.silence_s)

    def log_message(self, *args) -> None:
        """Stay quiet."""


@pytest.fixture
def server(monkeypatch) -> Iterator[SimpleNamespace]:
    """A server on this machine that plays zenodo; attributes say how it behaves."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "RETRY_WAIT_S", 0)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vars(httpd).update(
        body=BODY,
        with_ranges=True,
        with_length=True,
        drops=[],
        ranges=[],
        answer=None,
        location="/",
        shift=0,
        silence_s=0,
    )
    Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/a.npz"
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def test_what_arrives_is_whole_and_alone(tmp_path, server):
    lines: list[str] = []
    assert fetched(server, tmp_path / "data", lines.append) == BODY
    assert os.listdir(tmp_path / "data") == ["a.npz"]
    assert any("(100 %)" in line for line in lines)
    assert server.ranges == [None]


def test_a_dropped_connection_is_taken_up_where_it_ended(tmp_path, server):
    server.drops = [3000, 2000]
    assert fetched(server, tmp_path) == BODY
    assert server.ranges == [None, "bytes=3000-", "bytes=5000-"]


@pytest.mark.parametrize("with_ranges", [True, False])
def test_a_later_run_goes_on_where_one_broke_off(tmp_path, server, monkeypatch, with_ranges):
    server.with_ranges, server.drops = with_ranges, [3000]
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(
        NetworkError, match=rf"ended after 3000 of {len(BODY)} bytes\); run again to go on where it stopped"
    ):
        fetched(server, tmp_path)
    assert (tmp_path / "a.npz.part").read_bytes() == BODY[:3000]
    assert not (tmp_path / "a.npz").exists()
    assert fetched(server, tmp_path) == BODY
    assert server.ranges == [None, "bytes=3000-"]
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_part_that_is_whole_is_used(tmp_path, server):
    (tmp_path / "a.npz.part").write_bytes(BODY)
    assert fetched(server, tmp_path) == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_a_part_that_is_too_long_is_dropped(tmp_path, server):
    (tmp_path / "a.npz.part").write_bytes(BODY + b"more")
    assert fetched(server, tmp_path) == BODY
    assert server.ranges == [f"bytes={len(BODY) + 4}-", None]


def test_a_server_that_sends_another_range_is_not_believed(tmp_path, server):
    (tmp_path / "a.npz.part").write_bytes(BODY[:100])
    server.shift = 1
    assert fetched(server, tmp_path) == BODY
    assert server.ranges == ["bytes=100-", None]


@pytest.mark.parametrize("part", [b"", b"of another file"])
def test_a_wrong_md5_is_refused_and_the_part_removed(tmp_path, server, part):
    if part:
        (tmp_path / "a.npz.part").write_bytes(part)
    else:
        server.body = BODY[:-1] + b"x"
    with pytest.raises(
        ArchiveError,
        match=rf"has MD5 \w+ instead of {MD5} and was removed; run again to fetch it anew, or fetch the file yourself\.$",
    ):
        fetched(server, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_file_without_end_is_cut_off(tmp_path, server, monkeypatch):
    server.with_length = False
    monkeypatch.setattr(download, "CHUNK", 100)
    arrived: list[int] = []
    monkeypatch.setattr(
        download, "digest", lambda part, kind: arrived.append(part.stat().st_size) or "another"
    )
    with pytest.raises(ArchiveError, match="instead of"):
        fetch(Remote(server.url, tmp_path / "a.npz", "md5", MD5, size=1000), lambda line: None)
    assert arrived == [1100]
    assert not any(tmp_path.iterdir())


def test_a_length_that_is_not_told_is_done_without(tmp_path, server):
    server.with_length = False
    assert fetched(server, tmp_path) == BODY


@pytest.mark.parametrize(
    ("answer", "tries", "kind"), [(404, 1, ArchiveError), (503, download.TRIES, NetworkError)]
)
def test_what_the_server_refuses_is_told(tmp_path, server, answer, tries, kind):
    server.answer = answer
    with pytest.raises(kind, match=f"HTTP Error {answer}"):
        fetched(server, tmp_path)
    assert len(server.ranges) == tries
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_not_taken_for_a_broken_connection(tmp_path, server, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetched(server, tmp_path)
    assert len(server.ranges) == 1


def test_only_http_is_spoken_also_after_a_redirect(tmp_path, server):
    secret = tmp_path / "secret.npz"
    secret.write_bytes(BODY)
    server.answer = 302
    for server.location in (secret.as_uri(), "ftp://127.0.0.1/x"):
        with pytest.raises(PipelineError, match=r"the download from .* broke off"):
            fetched(server, tmp_path)
    server.url = secret.as_uri()
    with pytest.raises(PipelineError, match="unknown url type: file"):
        fetched(server, tmp_path)
    assert os.listdir(tmp_path) == ["secret.npz"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl is installed")
def test_a_server_whose_certificate_nobody_vouches_for_is_not_listened_to(tmp_path, server):
    """Its bytes are the right ones; as soon as the certificate is trusted, they are taken."""
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    subprocess.run([*new, *files, *name], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        fetched(server, tmp_path / "data")
    assert not any((tmp_path / "data").iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
        assert fetched(server, tmp_path / "data") == BODY


def test_progress_is_told_about_every_five_percent(monkeypatch):
    lines: list[str] = []
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: 0)
    report = download._progress("a", 0, 10_000, lines.append)
    for now in range(1, 10_001):
        report(now)
    assert len(lines) == 20
    lines.clear()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    report = download._progress("a", 0, None, lines.append)
    for now in range(100):
        report(now)
    assert 5 < len(lines) < 30


def test_what_arrived_before_a_silence_is_kept(tmp_path, server, monkeypatch):
    """Also where it is less than is read at a time."""
    monkeypatch.setattr(download, "TRIES", 1)
    server.drops, server.silence_s = [3000], 2
    with pytest.raises(NetworkError, match=r"broke off \(timed out\)"):
        fetch(Remote(server.url, tmp_path / "a.npz", "md5", MD5, timeout_s=0.2), print)
    assert (tmp_path / "a.npz.part").read_bytes() == BODY[:3000]


def test_a_part_that_is_whole_is_hashed_once(tmp_path, server, monkeypatch):
    """It may be gigabytes."""
    hashed: list[Path] = []
    monkeypatch.setattr(download, "digest", lambda path, kind: (hashed.append(path), digest(path, kind))[1])
    (tmp_path / "a.npz.part").write_bytes(BODY)
    assert fetched(server, tmp_path) == BODY
    assert hashed == [tmp_path / "a.npz.part"]
