"""Every fault of a hub or of the network gives one sentence, and a later run recovers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vdm_pipeline.errors import NetworkError
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models import hub
from vdm_pipeline.stages.models.hub_errors import translate_hub_errors
from vdm_pipeline_tests.hub import COMMIT, Fault, serving
from vdm_pipeline_tests.stages.fault_tables import documented_errors, matches
from vdm_pipeline_tests.stages.models.hub_client import (
    SIZE,
    WEIGHTS,
    HubClient,
    is_fetched,
    write_repository,
)

RENAMED = "runwayml/stable-diffusion-v1-5"


@dataclass(frozen=True)
class Case:
    """A fault, the error that it gives, and what the message names."""

    error: str
    """Name of the error's class. Empty if the download recovers without one."""
    mentions: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    pin: dict[str, str] = field(default_factory=dict)
    """What differs in the pin."""


def of_weights(kind: str, times: int = 1_000_000) -> tuple[Fault]:
    return (Fault(kind, "weights.safetensors", times),)


UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9"}
SOCKS = {"no_proxy": "", "ALL_PROXY": "socks5://127.0.0.1:1080"}
CASES = {
    "no network": Case("NetworkError", ("'owner/name'", "(ConnectError)"), environment=UNREACHABLE),
    "the hub is down": Case("NetworkError", ("'owner/name'", "(503)"), (Fault("503"),)),
    "the hub is busy": Case("NetworkError", ("'owner/name'", "(429)"), (Fault("429"),)),
    "stalls, once": Case("", faults=of_weights("stall", 1)),
    "breaks off, once": Case("", faults=of_weights("cut", 1)),
    "breaks off, always": Case(
        "NetworkError", (f"owner/name/{WEIGHTS}", f"of {SIZE} bytes"), of_weights("cut")
    ),
    "a wrong byte": Case("ModelError", (f"owner/name/{WEIGHTS}", "SHA256"), of_weights("corrupt", 1)),
    "gated": Case(
        "ModelError", ("'owner/name'", "/owner/name", "HF_TOKEN"), (Fault("403 GatedRepo", "/resolve/"),)
    ),
    "deleted, renamed or private": Case(
        "ModelError", (f"'{RENAMED}'", "no such repository", "HF_TOKEN"), pin={"repository": RENAMED}
    ),
    "an unknown commit": Case("ModelError", ("ab" * 20, "revision"), pin={"commit": "ab" * 20}),
    "an unknown file": Case(
        "ModelError", ("'vae/weights.safetensors'", "weights"), pin={"name": "vae/weights.safetensors"}
    ),
    "an invalid token": Case("ModelError", ("HF_TOKEN (401)",), (Fault("401", "/api/"),)),
    "a login page instead of the hub": Case(
        "NetworkError", ("(JSONDecodeError)",), (Fault("page", "/api/"),)
    ),
    "an invalid repository id": Case("ModelError", ("'owner/a..b'",), pin={"repository": "owner/a..b"}),
    "no space on the disk": Case("ModelError", ("'owner/name'", "GB left", "HF_HOME"), of_weights("vast")),
    "HF_ENDPOINT is not an address": Case(
        "ModelError", ("HF_ENDPOINT is 'nowhere'",), environment={"HF_ENDPOINT": "nowhere"}
    ),
    "a SOCKS proxy": Case("PipelineError", ("HTTP_PROXY", "'socks5'"), environment=SOCKS),
    "SSL_CERT_FILE does not exist": Case(
        "PipelineError", ("/no/where", "SSL_CERT_FILE"), environment={"SSL_CERT_FILE": "/no/where"}
    ),
    "HF_HUB_OFFLINE": Case(
        "ModelError", ("'owner/name'", "HF_HUB_OFFLINE"), environment={"HF_HUB_OFFLINE": "1"}
    ),
}


def _fetch_twice(title: str, repository: Path, folder: Path) -> tuple[str, str]:
    """The last line with the fault, and then without it."""
    case, sha256 = CASES[title], file_sha256(repository / WEIGHTS)
    with serving({"owner/name": repository}) as server:
        home = folder / title.replace(" ", "_")
        server.faults = list(case.faults)
        first = HubClient(server, home, sha256, case.environment, **case.pin).run()
        server.faults = []
        return first, HubClient(server, home, sha256).run()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def outcomes(repository, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """All cases in parallel: some wait for half a minute before they give up."""
    folder = tmp_path_factory.mktemp("homes")
    with ThreadPoolExecutor(8) as pool:
        lines = pool.map(lambda title: _fetch_twice(title, repository, folder), CASES)
        return dict(zip(CASES, lines, strict=True))


@pytest.mark.parametrize("title", CASES)
def test_a_fault_is_one_sentence_and_a_later_run_recovers(outcomes, repository, title):
    case, (first, second) = CASES[title], outcomes[title]
    if case.error:
        assert first.startswith(f"{case.error}: ")
        assert not [part for part in case.mentions if part not in first], first
    else:
        assert is_fetched(first, repository)
    assert is_fetched(second, repository)


def test_the_document_lists_the_same_faults(outcomes):
    errors = documented_errors("Faults of a hub or of the network")
    assert sorted(errors) == sorted(CASES)
    messages = {title: outcomes[title][0].split(": ", 1)[1] for title, case in CASES.items() if case.error}
    assert {
        title: message for title, message in messages.items() if not matches(errors[title], message)
    } == {}
    assert [title for title in errors if not errors[title]] == [
        title for title in CASES if title not in messages
    ]


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), KeyError("ours")])
def test_our_own_errors_pass(error):
    with pytest.raises(type(error), match="ours"), translate_hub_errors("owner/name", COMMIT):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("the stream ended"), ValueError("headers are missing")])
def test_builtin_errors_of_the_library_are_network_errors(error, tmp_path, monkeypatch):
    def broken(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", broken)
    pin = ModelPin(id="owner/name", revision=COMMIT, weights={}, licence="MIT")
    with (
        pytest.raises(NetworkError, match=r"'owner/name' .* \(ConnectionError\)"),
        translate_hub_errors(pin.id, COMMIT),
    ):
        hub._fetch_descriptions(pin, tmp_path)
