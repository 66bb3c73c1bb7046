"""A hub's repository is fetched as it is pinned, by processes of their own from a hub on this machine."""

import os
import re
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
from vdm_pipeline_tests.stages.models.hub_requests import (
    FAST,
    SIZE,
    WEIGHTS,
    Asker,
    fetched,
    write_repository,
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def asker(repository, tmp_path) -> Iterator[Asker]:
    with serving({"owner/name": repository}) as hub:
        yield Asker(hub, tmp_path / "home", file_sha256(repository / WEIGHTS))


def of_weights(hub: Hub) -> list[str]:
    """Requests for the bytes of weights."""
    return [asked for asked in hub.asked if asked.startswith("GET /weights/")]


def test_what_is_pinned_is_fetched_once_and_nothing_else(asker, repository):
    assert fetched(asker.ask(), repository)
    assert len(of_weights(asker.hub)) == 1
    asker.hub.asked.clear()
    assert fetched(asker.ask(), repository)
    assert fetched(asker.ask(HF_HUB_OFFLINE="1"), repository)
    assert not asker.hub.asked


def test_the_token_is_for_the_hub_alone(asker):
    asker.ask()
    tokens = {"Bearer hf_secret" in asked for asked in asker.hub.asked if "/resolve/" in asked}
    assert tokens == {True}
    assert not any("hf_secret" in asked for asked in of_weights(asker.hub))


@pytest.mark.parametrize(
    ("location", "sent"),
    [("https://hub.test/x", True), ("http://hub.test/x", False), ("https://cdn.test/x", False)],
)
def test_the_token_is_not_sent_in_the_clear_or_elsewhere(monkeypatch, tmp_path, location, sent):
    monkeypatch.setattr(hub_module.constants, "ENDPOINT", "https://hub.test")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(hub_module, "get_hf_file_metadata", lambda _: SimpleNamespace(location=location))
    pin = ModelPin(id="owner/name", revision=COMMIT, weights={WEIGHTS: "0" * 64}, licence="MIT")
    remote = hub_module._remote(pin, tmp_path, WEIGHTS, "0" * 64, 1)
    assert ("hf_secret" in str(dict(remote.headers))) == sent
    assert "hf_secret" not in repr(remote)


@pytest.mark.parametrize("fault", ["503", "401", "cut", "corrupt"])
def test_the_token_is_neither_told_nor_kept(asker, fault):
    asker.hub.faults = [Fault(fault, "weights.safetensors", 3), Fault("stall", "weights.safetensors", 1)]
    told = asker.start(HF_DEBUG="1", HF_HUB_VERBOSITY="debug").communicate()
    assert any("hf_secret" in asked for asked in asker.hub.asked), "the hub was asked with it"
    assert "hf_secret" not in "".join(told)
    kept = [path for path in asker.home.rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if b"hf_secret" in path.read_bytes()]


def test_a_killed_download_is_gone_on_with(asker, repository):
    asker.hub.faults = [Fault("stall", "weights.safetensors", 1)]
    process = asker.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    until = time.monotonic() + 60
    while time.monotonic() < until and not (
        asker.part().exists() and asker.part().stat().st_size > SIZE // 4
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = asker.part().stat().st_size
    assert fetched(asker.ask(), repository)
    assert of_weights(asker.hub)[1:] == [f"GET /weights/owner/name/{WEIGHTS} bytes={have}-"]
    assert not asker.part().exists()


def test_two_processes_fetch_it_once(asker, repository):
    processes = [asker.start() for _ in range(2)]
    assert all(fetched(process.communicate()[0].splitlines()[-1], repository) for process in processes)
    assert len(of_weights(asker.hub)) == 1


@pytest.mark.parametrize("name", [WEIGHTS, "unet/config.json"])
@pytest.mark.parametrize("change", ["another byte", "gone", "more"])
def test_what_was_changed_is_fetched_anew(asker, repository, name, change):
    file = Path(asker.ask().removeprefix("folder: ")) / name
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + (b"x" if change == "another byte" else b"xyz"))
    assert fetched(asker.ask(), repository)


def test_what_is_not_pinned_does_not_stay_beside_it(asker, repository):
    folder = Path(asker.ask().removeprefix("folder: "))
    (folder / "unet/more.safetensors").write_bytes(bytes(10))
    assert fetched(asker.ask(), repository)


def test_a_part_counts_as_room(asker, repository):
    """What has arrived need not fit again."""
    asker.ask()
    whole = asker.part().with_suffix("")
    part = whole.read_bytes()[: SIZE // 2]
    whole.unlink()
    asker.part().write_bytes(part)
    asker.hub.asked.clear()
    assert fetched(asker.ask(), repository)
    assert of_weights(asker.hub) == [f"GET /weights/owner/name/{WEIGHTS} bytes={SIZE // 2}-"]


def test_what_lies_in_the_hubs_cache_is_taken_from_there(asker, repository):
    """Also offline, and where an older `huggingface_hub` left no list of the files; the cache is left as it is."""
    snapshot = asker.home / f"hub/models--owner--name/snapshots/{COMMIT}"
    for name in (WEIGHTS, "unet/config.json", "unet/other.safetensors"):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes((repository / name).read_bytes())
    assert fetched(asker.ask(HF_HUB_OFFLINE="1"), repository)
    assert not asker.hub.asked
    assert fetched(asker.ask(), repository)
    assert not asker.hub.asked
    assert (snapshot / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()


def test_half_a_cache_is_completed(asker, repository):
    """An older `huggingface_hub`, or one that was asked for a file, leaves a part of a repository."""
    snapshot = asker.home / f"hub/models--owner--name/snapshots/{COMMIT}"
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes((repository / WEIGHTS).read_bytes())
    assert fetched(asker.ask(), repository)
    assert not of_weights(asker.hub)


def test_a_wrong_pin_is_told_before_anything_is_fetched(asker, repository):
    asker.digest, right = "0" * 64, asker.digest
    told = asker.ask()
    assert re.match(
        rf"ModelError: '{WEIGHTS}' of 'owner/name' at {COMMIT} has sha256 {right} at the hub, but {'0' * 64} is pinned;",
        told,
    )
    assert not of_weights(asker.hub)


def test_a_login_page_instead_of_the_weights_takes_nothing_away(asker, repository, tmp_path):
    """A server that ignores the range and sends another file."""
    asker.hub.faults = [Fault("cut", "weights.safetensors")]
    asker.ask()
    have = asker.part().stat().st_size
    asker.hub.faults = [Fault("page", "weights.safetensors")]
    assert "the server sent a file of" in asker.ask()
    assert asker.part().stat().st_size == have
    asker.hub.faults = []
    assert fetched(asker.ask(), repository)


def test_weights_of_a_repository_are_printed_for_a_pin(repository):
    with serving({"owner/name": repository}) as hub:
        environment = os.environ | FAST | {"HF_ENDPOINT": hub.url}
        command = [sys.executable, "-m", "vdm_pipeline.stages.models"]
        done = subprocess.run(
            [*command, "owner/name", COMMIT], env=environment, capture_output=True, text=True, check=True
        )
        assert f'"{WEIGHTS}" = "{file_sha256(repository / WEIGHTS)}"' in done.stdout.splitlines()
        gone = subprocess.run(
            [*command, "owner/gone", COMMIT], env=environment, capture_output=True, text=True
        )
    assert gone.returncode == 1
    assert "has no such repository" in gone.stderr
    assert "Traceback" not in gone.stderr


def test_all_proxy_is_asked_for_the_list_and_for_the_weights(asker, repository):
    """The hub itself plays the proxy, which is asked for a host that there is none of."""
    proxy = {"ALL_PROXY": asker.hub.url, "HTTP_PROXY": "", "http_proxy": "", "no_proxy": "", "NO_PROXY": ""}
    assert fetched(asker.ask(HF_ENDPOINT="http://hub.invalid", **proxy), repository)
    assert len(of_weights(asker.hub)) == 1


def test_hosts_of_no_proxy_are_asked_without_one(asker, repository):
    assert fetched(asker.ask(HTTP_PROXY="http://127.0.0.1:9", no_proxy="localhost,127.0.0.1"), repository)


@pytest.fixture
def secure(repository, tmp_path) -> Iterator[tuple[Asker, Path]]:
    """A hub that is asked by https, and its certificate, which nobody else trusts."""
    certificate, key = tmp_path / "own.pem", tmp_path / "key.pem"
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*new, *named, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving({"owner/name": repository}, tls=tls) as hub:
        yield Asker(hub, tmp_path / "home", file_sha256(repository / WEIGHTS)), certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")
def test_certificates_of_ssl_cert_file_alone_are_believed(secure, repository, tmp_path, monkeypatch):
    asker, certificate = secure
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(NetworkError, match=r"broke off \(.*CERTIFICATE_VERIFY_FAILED"):
        fetch(
            Remote(
                f"{asker.hub.url}/weights/owner/name/{WEIGHTS}", tmp_path / "weights", "sha256", asker.digest
            ),
            print,
        )
    assert not asker.hub.asked
    assert fetched(asker.ask(SSL_CERT_FILE=str(certificate)), repository)
    assert len(of_weights(asker.hub)) == 1
