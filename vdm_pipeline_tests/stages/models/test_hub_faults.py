"""Whatever a hub, or the way to it, may do: one sentence, and a later run recovers."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from vdm_pipeline.errors import NetworkError
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models import hub
from vdm_pipeline_tests.hub import COMMIT, Fault, serving
from vdm_pipeline_tests.stages.models.hub_requests import (
    SIZE,
    WEIGHTS,
    Asker,
    documented,
    fetched,
    fits,
    write_repository,
)

# What happens, the environment, what is asked for instead, and what is told. `docs/models.md` has the same table.
FAULTS = {
    "no network": (
        None,
        {},
        {},
        "NetworkError: Model 'owner/name' could not be fetched from … (ConnectError); what arrived is kept: …",
    ),
    "the hub is down": (
        [Fault("503")],
        {},
        {},
        "NetworkError: Model 'owner/name' could not be fetched from … (503); what arrived is kept: …",
    ),
    "the hub is busy": (
        [Fault("429")],
        {},
        {},
        "NetworkError: Model 'owner/name' could not be fetched from … (429); what arrived is kept: …",
    ),
    "stalls, once": ([Fault("stall", "weights.safetensors", 1)], {}, {}, "folder: …"),
    "breaks off, once": ([Fault("cut", "weights.safetensors", 1)], {}, {}, "folder: …"),
    "breaks off, always": (
        [Fault("cut", "weights.safetensors")],
        {},
        {},
        f"NetworkError: owner/name/{WEIGHTS}: the download from … broke off (the connection ended after … of {SIZE} bytes); "
        "run again to go on where it stopped, or take the offline profile, VDM_PROFILE=demo.",
    ),
    "another byte": (
        [Fault("corrupt", "weights.safetensors", 1)],
        {},
        {},
        f"ModelError: owner/name/{WEIGHTS}: the download from … has SHA256 … instead of … and was removed; "
        "run again to fetch it anew, or take the offline profile, VDM_PROFILE=demo.",
    ),
    "gated": (
        [Fault("403 GatedRepo", "/resolve/")],
        {},
        {},
        f"ModelError: Model 'owner/name' at {COMMIT}: its owners ask for consent; give it on …/owner/name, "
        "and set HF_TOKEN to a token of yours.",
    ),
    "gone, renamed or private": (
        [],
        {},
        {"repository": "runwayml/stable-diffusion-v1-5"},
        f"ModelError: Model 'runwayml/stable-diffusion-v1-5' at {COMMIT}: … has no such repository, or it is private; "
        "correct the id (some were renamed or deleted), or set HF_TOKEN.",
    ),
    "no such commit": (
        [],
        {},
        {"commit": "ab" * 20},
        f"ModelError: Model 'owner/name' at {'ab' * 20}: … has no such commit of it; correct the revision of its pin.",
    ),
    "no such file": (
        [],
        {},
        {"name": "vae/weights.safetensors"},
        f"ModelError: 'owner/name' at {COMMIT} has no file 'vae/weights.safetensors'; correct the weights of its pin in the profile.",
    ),
    "a token that is not accepted": (
        [Fault("401", "/api/")],
        {},
        {},
        f"ModelError: Model 'owner/name' at {COMMIT}: … does not accept HF_TOKEN (401); renew it, or unset it.",
    ),
    "a login page instead of the hub": (
        [Fault("page", "/api/")],
        {},
        {},
        "NetworkError: Model 'owner/name' could not be fetched from … (JSONDecodeError); what arrived is kept: …",
    ),
    "no id of a repository": (
        [],
        {},
        {"repository": "owner/a..b"},
        f"ModelError: Model 'owner/a..b' at {COMMIT}: that is no id of a hub's repository; correct it.",
    ),
    "no room on the disk": (
        [Fault("vast", "weights.safetensors")],
        {},
        {},
        "ModelError: Model 'owner/name' takes … GB more, and the disk of … has … GB left; "
        "make room, or set HF_HOME to a folder on another disk.",
    ),
    "an HF_ENDPOINT that is no address": (
        [],
        {"HF_ENDPOINT": "nowhere"},
        {},
        f"ModelError: Model 'owner/name' at {COMMIT}: HF_ENDPOINT is 'nowhere', which is no http or https address; "
        "correct it, or unset it.",
    ),
    "a proxy that speaks SOCKS": (
        [],
        {"no_proxy": "", "ALL_PROXY": "socks5://127.0.0.1:1080"},
        {},
        "PipelineError: HTTP_PROXY, or ALL_PROXY, names a proxy of the kind 'socks5', and only 'http' is spoken; "
        "set HTTP_PROXY to the http:// address of one, or NO_PROXY=* to use none.",
    ),
    "an SSL_CERT_FILE that is not there": (
        [],
        {"SSL_CERT_FILE": "/no/where"},
        {},
        "PipelineError: The certificates of /no/where cannot be read ([Errno 2] No such file or directory); "
        "correct SSL_CERT_FILE, or unset it.",
    ),
    "HF_HUB_OFFLINE": (
        [],
        {"HF_HUB_OFFLINE": "1"},
        {},
        f"ModelError: Model 'owner/name' at {COMMIT}: it is not whole in …, and HF_HUB_OFFLINE forbids to fetch it; "
        "unset that, or copy the folder there.",
    ),
}


def _first_and_second(case: str, repository: Path, folder: Path) -> tuple[str, str]:
    """What is told under the fault, and without it."""
    faults, environment, instead, _ = FAULTS[case]
    with serving({"owner/name": repository}) as server:
        usual = Asker(server, folder / case.replace(" ", "_"), file_sha256(repository / WEIGHTS))
        server.faults = faults or []
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"} if faults is None else {}
        other = Asker(server, usual.home, usual.digest, environment | nowhere, **instead)
        first = other.ask()
        server.faults = []
        return first, usual.ask()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def told(repository, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Of all faults, beside each other, as some wait for half a minute before they give up."""
    folder = tmp_path_factory.mktemp("homes")
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(8))
        return dict(
            zip(
                FAULTS,
                pool.map(lambda case: _first_and_second(case, repository, folder), FAULTS),
                strict=True,
            )
        )


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence_and_a_later_run_recovers(told, repository, case):
    first, second = told[case]
    assert fits(FAULTS[case][-1], first), first
    assert fetched(second, repository)


def test_the_document_lists_the_same_faults():
    expected = [
        (case, f"`{row[-1].split(': ', 1)[1]}`" if "Error" in row[-1] else "nothing: it is tried again")
        for case, row in FAULTS.items()
    ]
    assert documented("What a hub, or the way to it, may do") == expected


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), KeyError("ours")])
def test_a_fault_of_our_own_is_not_told_as_the_hubs(error):
    with pytest.raises(type(error), match="ours"), hub._told("owner/name", COMMIT):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("the stream ended"), ValueError("headers are missing")])
def test_what_the_library_has_no_class_for_is_the_networks(error, tmp_path, monkeypatch):
    def broken(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", broken)
    pin = ModelPin(id="owner/name", revision=COMMIT, weights={}, licence="MIT")
    with (
        pytest.raises(
            NetworkError, match=r"could not be fetched from .* \(ConnectionError\); what arrived is kept"
        ),
        hub._told(pin.id, COMMIT),
    ):
        hub._fetch_descriptions(pin, tmp_path)
