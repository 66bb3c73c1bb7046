"""Downloads from a local server that disconnects, sends wrong ranges, refuses and redirects."""

import errno
import hashlib
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError, NetworkError, PipelineError
from vdm_pipeline.io import download
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.io.progress import Log
from vdm_pipeline_tests.io.file_server import serving_file

BODY = np.random.default_rng(0).bytes(9000)
MD5 = hashlib.md5(BODY).hexdigest()


def fetch_bytes(server: SimpleNamespace, folder: Path, log: Log = lambda line: None) -> bytes:
    """Fetch the server's file and return its content."""
    fetch(Remote(server.url, folder / "a.npz", "md5", MD5), log)
    return (folder / "a.npz").read_bytes()


@pytest.fixture
def server(monkeypatch) -> Iterator[SimpleNamespace]:
    """A local server of `BODY`, and no proxy and no waits between attempts."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "RETRY_WAIT_S", 0)
    with serving_file(BODY) as file_server:
        yield file_server


def test_download_leaves_the_complete_file_only(tmp_path, server):
    lines: list[str] = []
    assert fetch_bytes(server, tmp_path / "data", lines.append) == BODY
    assert os.listdir(tmp_path / "data") == ["a.npz"]
    assert any("(100 %)" in line for line in lines)
    assert server.ranges == [None]


def test_disconnected_download_is_resumed(tmp_path, server):
    server.disconnect_after = [3000, 2000]
    assert fetch_bytes(server, tmp_path) == BODY
    assert server.ranges == [None, "bytes=3000-", "bytes=5000-"]


@pytest.mark.parametrize("with_ranges", [True, False])
def test_later_call_resumes(tmp_path, server, monkeypatch, with_ranges):
    server.with_ranges, server.disconnect_after = with_ranges, [3000]
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    with pytest.raises(NetworkError, match=rf"ended after 3000 of {len(BODY)} bytes\); run again to resume"):
        fetch_bytes(server, tmp_path)
    assert (tmp_path / "a.npz.part").read_bytes() == BODY[:3000]
    assert not (tmp_path / "a.npz").exists()
    assert fetch_bytes(server, tmp_path) == BODY
    assert server.ranges == [None, "bytes=3000-"]
    assert os.listdir(tmp_path) == ["a.npz"]


def test_complete_part_is_used(tmp_path, server):
    (tmp_path / "a.npz.part").write_bytes(BODY)
    assert fetch_bytes(server, tmp_path) == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_too_long_part_is_removed(tmp_path, server):
    (tmp_path / "a.npz.part").write_bytes(BODY + b"more")
    assert fetch_bytes(server, tmp_path) == BODY
    assert server.ranges == [f"bytes={len(BODY) + 4}-", None]


def test_wrong_range_is_not_accepted(tmp_path, server):
    (tmp_path / "a.npz.part").write_bytes(BODY[:100])
    server.range_offset = 1
    assert fetch_bytes(server, tmp_path) == BODY
    assert server.ranges == ["bytes=100-", None]


@pytest.mark.parametrize("part", [b"", b"of another file"])
def test_wrong_md5_is_an_error_and_the_part_is_removed(tmp_path, server, part):
    if part:
        (tmp_path / "a.npz.part").write_bytes(part)
    else:
        server.body = BODY[:-1] + b"x"
    message = rf"has MD5 \w+ instead of {MD5} and was removed; run again, or fetch the file yourself\.$"
    with pytest.raises(ArchiveError, match=message):
        fetch_bytes(server, tmp_path)
    assert not any(tmp_path.iterdir())


def test_endless_response_is_cut_off(tmp_path, server, monkeypatch):
    server.with_length = False
    monkeypatch.setattr(download, "CHUNK", 100)
    sizes: list[int] = []
    monkeypatch.setattr(download, "digest", lambda part, _: sizes.append(part.stat().st_size) or "wrong")
    with pytest.raises(ArchiveError, match="instead of"):
        fetch(Remote(server.url, tmp_path / "a.npz", "md5", MD5, size=1000), lambda line: None)
    assert sizes == [1100]
    assert not any(tmp_path.iterdir())


def test_content_length_is_optional(tmp_path, server):
    server.with_length = False
    assert fetch_bytes(server, tmp_path) == BODY


@pytest.mark.parametrize(
    ("status", "attempts", "error"), [(404, 1, ArchiveError), (503, download.ATTEMPTS, NetworkError)]
)
def test_http_errors(tmp_path, server, status, attempts, error):
    server.status = status
    with pytest.raises(error, match=f"HTTP Error {status}"):
        fetch_bytes(server, tmp_path)
    assert len(server.ranges) == attempts
    assert not any(tmp_path.iterdir())


def test_full_disk_is_not_retried(tmp_path, server, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetch_bytes(server, tmp_path)
    assert len(server.ranges) == 1


def test_only_http_also_after_a_redirect(tmp_path, server):
    secret = tmp_path / "secret.npz"
    secret.write_bytes(BODY)
    server.status = 302
    for server.location in (secret.as_uri(), "ftp://127.0.0.1/x"):
        with pytest.raises(PipelineError, match=r"the download from .* failed"):
            fetch_bytes(server, tmp_path)
    server.url = secret.as_uri()
    with pytest.raises(PipelineError, match="unknown url type: file"):
        fetch_bytes(server, tmp_path)
    assert os.listdir(tmp_path) == ["secret.npz"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl is installed")
def test_untrusted_certificate_is_an_error(tmp_path, server):
    """Once the certificate is trusted, the same file is accepted."""
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    subprocess.run([*new, *files, *name], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch_bytes(server, tmp_path / "data")
    assert not any((tmp_path / "data").iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
        assert fetch_bytes(server, tmp_path / "data") == BODY


def test_progress_is_logged_every_five_percent_or_seconds(monkeypatch):
    lines: list[str] = []
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: 0)
    report = download._DownloadLog("a", 0, 10_000, lines.append)
    for size in range(1, 10_001):
        report(size)
    assert len(lines) == 20
    lines.clear()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    report = download._DownloadLog("a", 0, None, lines.append)
    for size in range(100):
        report(size)
    assert 5 < len(lines) < 30


def test_bytes_before_a_timeout_are_kept(tmp_path, server, monkeypatch):
    """Also if they are fewer than one read requests."""
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.disconnect_after, server.silence_s = [3000], 2
    with pytest.raises(NetworkError, match=r"failed \(timed out\)"):
        fetch(Remote(server.url, tmp_path / "a.npz", "md5", MD5, timeout_s=0.2), print)
    assert (tmp_path / "a.npz.part").read_bytes() == BODY[:3000]


def test_complete_part_is_hashed_once(tmp_path, server, monkeypatch):
    """It may have gigabytes."""
    hashed: list[Path] = []

    def recorded_digest(path: Path, algorithm: str) -> str:
        hashed.append(path)
        return digest(path, algorithm)

    monkeypatch.setattr(download, "digest", recorded_digest)
    (tmp_path / "a.npz.part").write_bytes(BODY)
    assert fetch_bytes(server, tmp_path) == BODY
    assert hashed == [tmp_path / "a.npz.part"]
