"""Processes fetch a pinned repository from the fake hub: once, resumably, and nothing else."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from vdm_pipeline.errors import NetworkError
from vdm_pipeline.io import download
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models import hub as hub_module
from vdm_pipeline_tests.hub import COMMIT, Fault, Hub, serving
from vdm_pipeline_tests.stages.models.hub_client import (
    ENVIRONMENT,
    SIZE,
    WEIGHTS,
    HubClient,
    is_fetched,
    write_repository,
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def client(repository, tmp_path) -> Iterator[HubClient]:
    with serving({"owner/name": repository}) as hub:
        yield HubClient(hub, tmp_path / "home", file_sha256(repository / WEIGHTS))


def weight_requests(hub: Hub) -> list[str]:
    """Downloads of weights."""
    return [request for request in hub.requests if request.startswith("GET /weights/")]


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_only_the_pinned_files_are_fetched_once(client, repository):
    assert is_fetched(client.run(), repository)
    assert len(weight_requests(client.hub)) == 1
    client.hub.requests.clear()
    assert is_fetched(client.run(), repository)
    assert is_fetched(client.run(HF_HUB_OFFLINE="1"), repository)
    assert not client.hub.requests


def test_the_token_goes_to_the_hub_only(client):
    client.run()
    resolved = [request for request in client.hub.requests if "/resolve/" in request]
    assert resolved and all("Bearer hf_secret" in request for request in resolved)
    assert not any("hf_secret" in request for request in weight_requests(client.hub))


@pytest.mark.parametrize(
    ("location", "sent"),
    [("https://hub.test/x", True), ("http://hub.test/x", False), ("https://cdn.test/x", False)],
)
def test_the_token_is_not_sent_over_http_or_to_another_host(monkeypatch, tmp_path, location, sent):
    monkeypatch.setattr(hub_module.constants, "ENDPOINT", "https://hub.test")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(hub_module, "get_hf_file_metadata", lambda _: SimpleNamespace(location=location))
    pin = ModelPin(id="owner/name", revision=COMMIT, weights={WEIGHTS: "0" * 64}, licence="MIT")
    remote = hub_module._remote(pin, tmp_path, WEIGHTS, "0" * 64, 1)
    assert ("hf_secret" in str(dict(remote.headers))) == sent
    assert "hf_secret" not in repr(remote)


@pytest.mark.parametrize("fault", ["503", "401", "cut", "corrupt"])
def test_the_token_is_neither_logged_nor_saved(client, fault):
    client.hub.faults = [Fault(fault, "weights.safetensors", 3), Fault("stall", "weights.safetensors", 1)]
    output = client.start(HF_DEBUG="1", HF_HUB_VERBOSITY="debug").communicate()
    assert any("hf_secret" in request for request in client.hub.requests), "the hub got the token"
    assert "hf_secret" not in "".join(output)
    files = [path for path in client.home.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"hf_secret" in path.read_bytes()]


def test_a_killed_download_resumes(client, repository):
    client.hub.faults = [Fault("stall", "weights.safetensors", 1)]
    process = client.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and size_of(client.part()) <= SIZE // 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    arrived = client.part().stat().st_size
    assert is_fetched(client.run(), repository)
    assert weight_requests(client.hub)[1:] == [f"GET /weights/owner/name/{WEIGHTS} bytes={arrived}-"]
    assert not client.part().exists()


def test_two_processes_fetch_it_once(client, repository):
    processes = [client.start() for _ in range(2)]
    lines = [process.communicate()[0].splitlines()[-1] for process in processes]
    assert all(is_fetched(line, repository) for line in lines)
    assert len(weight_requests(client.hub)) == 1


@pytest.mark.parametrize("name", [WEIGHTS, "unet/config.json"])
@pytest.mark.parametrize("change", ["another byte", "removed", "longer"])
def test_a_changed_file_is_fetched_again(client, repository, name, change):
    file = Path(client.run().removeprefix("folder: ")) / name
    if change == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + (b"x" if change == "another byte" else b"xyz"))
    assert is_fetched(client.run(), repository)


def test_unpinned_weights_are_removed(client, repository):
    folder = Path(client.run().removeprefix("folder: "))
    (folder / "unet/more.safetensors").write_bytes(bytes(10))
    assert is_fetched(client.run(), repository)


def test_a_partial_download_is_completed(client, repository):
    client.run()
    weights = client.part().with_suffix("")
    half = weights.read_bytes()[: SIZE // 2]
    weights.unlink()
    client.part().write_bytes(half)
    client.hub.requests.clear()
    assert is_fetched(client.run(), repository)
    assert weight_requests(client.hub) == [f"GET /weights/owner/name/{WEIGHTS} bytes={SIZE // 2}-"]


def test_the_hubs_cache_is_reused_and_not_changed(client, repository):
    """Also offline, and without the file list that older versions of `huggingface_hub` do not write."""
    snapshot = client.home / f"hub/models--owner--name/snapshots/{COMMIT}"
    for name in (WEIGHTS, "unet/config.json", "unet/other.safetensors"):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes((repository / name).read_bytes())
    assert is_fetched(client.run(HF_HUB_OFFLINE="1"), repository)
    assert not client.hub.requests
    assert is_fetched(client.run(), repository)
    assert not client.hub.requests
    assert (snapshot / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()


def test_an_incomplete_cache_is_completed(client, repository):
    """Other programs may have cached single files of the repository."""
    snapshot = client.home / f"hub/models--owner--name/snapshots/{COMMIT}"
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes((repository / WEIGHTS).read_bytes())
    assert is_fetched(client.run(), repository)
    assert not weight_requests(client.hub)


def test_a_wrong_pin_fails_before_the_download(client):
    client.sha256, actual = "0" * 64, client.sha256
    error = client.run()
    assert error.startswith(f"ModelError: '{WEIGHTS}' of 'owner/name' at {COMMIT}")
    assert actual in error and "0" * 64 in error
    assert not weight_requests(client.hub)


def test_a_login_page_instead_of_the_weights_keeps_the_partial_download(client, repository):
    """A server that ignores the range and sends another file."""
    client.hub.faults = [Fault("cut", "weights.safetensors")]
    client.run()
    arrived = client.part().stat().st_size
    client.hub.faults = [Fault("page", "weights.safetensors")]
    assert client.run().startswith(f"NetworkError: owner/name/{WEIGHTS}")
    assert client.part().stat().st_size == arrived
    client.hub.faults = []
    assert is_fetched(client.run(), repository)


def print_pin(hub: Hub, repository: str) -> subprocess.CompletedProcess:
    environment = os.environ | ENVIRONMENT | {"HF_ENDPOINT": hub.url}
    command = [sys.executable, "-m", "vdm_pipeline.stages.models", repository, COMMIT]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_command_prints_the_weight_hashes_of_a_repository(repository):
    with serving({"owner/name": repository}) as hub:
        printed, missing = print_pin(hub, "owner/name"), print_pin(hub, "owner/missing")
    assert printed.returncode == 0
    assert f'"{WEIGHTS}" = "{file_sha256(repository / WEIGHTS)}"' in printed.stdout.splitlines()
    assert missing.returncode == 1
    assert "'owner/missing'" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_all_proxy_serves_the_list_and_the_weights(client, repository):
    """The fake hub is the proxy; the host of the endpoint does not exist."""
    proxy = {"ALL_PROXY": client.hub.url, "HTTP_PROXY": "", "http_proxy": "", "no_proxy": "", "NO_PROXY": ""}
    assert is_fetched(client.run(HF_ENDPOINT="http://hub.invalid", **proxy), repository)
    assert len(weight_requests(client.hub)) == 1


def test_hosts_of_no_proxy_bypass_the_proxy(client, repository):
    environment = {"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "localhost,127.0.0.1"}
    assert is_fetched(client.run(**environment), repository)


@pytest.fixture
def https(repository, tmp_path) -> Iterator[tuple[HubClient, Path]]:
    """A hub with https, and its self-signed certificate."""
    certificate, key = tmp_path / "own.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-newkey", "ec"]
    curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        [*command, *curve, *subject, "-out", certificate, "-keyout", key], check=True, capture_output=True
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving({"owner/name": repository}, tls=tls) as hub:
        yield HubClient(hub, tmp_path / "home", file_sha256(repository / WEIGHTS)), certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_only_certificates_of_ssl_cert_file_are_trusted(https, repository, tmp_path, monkeypatch):
    client, certificate = https
    url = f"{client.hub.url}/weights/owner/name/{WEIGHTS}"
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(Remote(url, tmp_path / "weights", "sha256", client.sha256), print)
    assert not client.hub.requests
    assert is_fetched(client.run(SSL_CERT_FILE=str(certificate)), repository)
    assert len(weight_requests(client.hub)) == 1
