"""A hub's repository is fetched as it is pinned, whatever the network does, by processes of their own from a hub on this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from vdm_pipeline.io.manifest import file_sha256
from vdm_pipeline_tests.hub import COMMIT, Fault, Hub, serving

ROOT = Path(__file__).parents[2]
WEIGHTS = "unet/weights.safetensors"
SIZE = 12_000_000
CLIENT = """
import sys
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io import download
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models import resolve_model

download.RETRY_WAIT_S = 0
weights = dict(pair.split("=") for pair in sys.argv[3:])
pin = ModelPin(id=sys.argv[1], revision=sys.argv[2], weights=weights, licence="MIT")
try:
    print("folder:", resolve_model(pin, lambda line: print(line, flush=True)))
except PipelineError as error:
    print(f"{type(error).__name__}: {error}")
"""
FAST = {"HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2", "no_proxy": "*", "HF_TOKEN": "hf_secret", "PYTHONPATH": str(ROOT)}


@dataclass
class Asker:
    """Who asks a hub for a repository, with a cache of its own."""

    hub: Hub
    home: Path
    digest: str
    environment: dict[str, str] = field(default_factory=dict)
    repository: str = "owner/name"
    commit: str = COMMIT
    name: str = WEIGHTS

    def start(self, **environment: str) -> subprocess.Popen:
        """A process that asks."""
        command = [sys.executable, "-c", CLIENT, self.repository, self.commit, f"{self.name}={self.digest}"]
        variables = os.environ | FAST | {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.home)} | self.environment | environment
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ask(self, **environment: str) -> str:
        """The last line that it says."""
        told, faults = self.start(**environment).communicate()
        assert "Traceback" not in faults, faults
        return told.splitlines()[-1]

    def part(self) -> Path:
        """What arrived of the weights."""
        return self.home / "hub/models--owner--name/blobs" / f"{self.digest}.part"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pinned file of weights, other files that nobody asked for, and what describes them."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "unet").mkdir()
    (folder / WEIGHTS).write_bytes(np.random.default_rng(0).bytes(SIZE))
    (folder / "unet/config.json").write_text('{"a": 1}')
    (folder / "unet/other.safetensors").write_bytes(bytes(1000))
    (folder / "unet/pickle.bin").write_bytes(bytes(1000))
    return folder


@pytest.fixture
def asker(repository, tmp_path) -> Iterator[Asker]:
    with serving({"owner/name": repository}) as hub:
        yield Asker(hub, tmp_path / "home", file_sha256(repository / WEIGHTS))


def fetched(line: str, repository: Path) -> bool:
    """Whether all that was asked for is in the folder that the line tells, and nothing else."""
    folder = Path(line.removeprefix("folder: "))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return files == {"unet/config.json", WEIGHTS} and (folder / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()


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


def test_a_killed_download_is_gone_on_with(asker, repository):
    asker.hub.faults = [Fault("stall", "weights.safetensors", 1)]
    process = asker.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    until = time.monotonic() + 60
    while time.monotonic() < until and not (asker.part().exists() and asker.part().stat().st_size > SIZE // 4):
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


def test_weights_that_were_changed_in_the_cache_are_told_and_fetched_anew(asker, repository):
    folder = Path(asker.ask().removeprefix("folder: "))
    blob = (folder / WEIGHTS).resolve()
    blob.write_bytes(bytes(SIZE))
    told = asker.ask()
    assert re.match(rf"ModelError: '{WEIGHTS}' of model 'owner/name' has sha256 \w+, but {asker.digest} is pinned; it was removed", told)
    assert fetched(asker.ask(), repository)


# What happens, the environment, what is asked for instead, and what is told. `docs/models.md` has the same table.
FAULTS = {
    "no network": (None, {}, {}, "NetworkError: Model 'owner/name' could not be fetched from … (ConnectError); what arrived is kept: …"),
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
        f"ModelError: owner/name/{WEIGHTS}: the download from … has SHA256 … instead of … and was removed; run again to fetch it anew.",
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
    "no room on the disk": (
        [Fault("vast", "weights.safetensors")],
        {},
        {},
        "ModelError: Model 'owner/name' takes … GB, and the disk of … has … GB left; "
        "make room, or set HF_HOME to a folder on another disk.",
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
    with serving({"owner/name": repository}) as hub:
        usual = Asker(hub, folder / case.replace(" ", "_"), file_sha256(repository / WEIGHTS))
        hub.faults = faults or []
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"} if faults is None else {}
        other = Asker(hub, usual.home, usual.digest, environment | nowhere, **instead)
        first = other.ask()
        hub.faults = []
        return first, usual.ask()


@pytest.fixture(scope="module")
def told(repository, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Of all faults, beside each other, as some wait for half a minute before they give up."""
    folder = tmp_path_factory.mktemp("homes")
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(4))
        return dict(zip(FAULTS, pool.map(lambda case: _first_and_second(case, repository, folder), FAULTS), strict=True))


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence_and_a_later_run_recovers(told, repository, case):
    first, second = told[case]
    pattern = ".+?".join(re.escape(part) for part in FAULTS[case][-1].split("…"))
    assert re.fullmatch(pattern.removesuffix(".+?") + (".*" if pattern.endswith(".+?") else ""), first), first
    assert fetched(second, repository)


def test_the_document_lists_the_same_faults():
    lines = (ROOT / "docs/models.md").read_text(encoding="utf-8").splitlines()
    listed = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("| ")]
    expected = [
        (case, f"`{row[-1].split(': ', 1)[1]}`" if "Error" in row[-1] else "nothing: it is tried again") for case, row in FAULTS.items()
    ]
    assert [row for row in listed if row[0] in FAULTS] == expected


def test_weights_of_a_repository_are_printed_for_a_pin(repository):
    with serving({"owner/name": repository}) as hub:
        environment = os.environ | FAST | {"HF_ENDPOINT": hub.url}
        command = [sys.executable, "-m", "vdm_pipeline.stages.models"]
        done = subprocess.run([*command, "owner/name", COMMIT], env=environment, capture_output=True, text=True, check=True)
        assert f'"{WEIGHTS}" = "{file_sha256(repository / WEIGHTS)}"' in done.stdout.splitlines()
        gone = subprocess.run([*command, "owner/gone", COMMIT], env=environment, capture_output=True, text=True)
    assert gone.returncode == 1
    assert "has no such repository" in gone.stderr
    assert "Traceback" not in gone.stderr
