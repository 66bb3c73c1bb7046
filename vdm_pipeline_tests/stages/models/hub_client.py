"""Processes that fetch a pinned repository from the fake hub, each with its own cache."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vdm_pipeline_tests.hub import COMMIT, Hub
from vdm_pipeline_tests.paths import ROOT

WEIGHTS = "unet/weights.safetensors"
SIZE = 3_000_000
"""Bytes of the weights."""
SCRIPT = """
import sys
import time
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io import download
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models.pins import resolve_model

download.RETRY_WAIT_S, sleep = 0, time.sleep
time.sleep = lambda seconds: sleep(seconds / 100)  # huggingface_hub waits for half a minute between its tries
weights = dict(pair.split("=") for pair in sys.argv[3:])
pin = ModelPin(id=sys.argv[1], revision=sys.argv[2], weights=weights, licence="MIT")
try:
    print("folder:", resolve_model(pin, lambda line: print(line, flush=True)))
except PipelineError as error:
    print(f"{type(error).__name__}: {error}")
"""
ENVIRONMENT = {
    "HF_HUB_DOWNLOAD_TIMEOUT": "2",
    "HF_HUB_ETAG_TIMEOUT": "2",
    "no_proxy": "*",
    "HF_TOKEN": "hf_secret",
    "PYTHONPATH": str(ROOT),
}
"""Short timeouts, no proxy and a token."""


@dataclass
class HubClient:
    """Fetches one repository from a hub into a cache of its own."""

    hub: Hub
    home: Path
    sha256: str
    environment: dict[str, str] = field(default_factory=dict)
    repository: str = "owner/name"
    commit: str = COMMIT
    name: str = WEIGHTS

    def start(self, **environment: str) -> subprocess.Popen:
        """Start a process that fetches."""
        pin = [self.repository, self.commit, f"{self.name}={self.sha256}"]
        hub = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.home)}
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *pin],
            env=os.environ | ENVIRONMENT | hub | self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> str:
        """Fetch, and return the last line of output: the folder or the error."""
        output, errors = self.start(**environment).communicate()
        assert "Traceback" not in errors, errors
        return output.splitlines()[-1]

    def part(self) -> Path:
        """The partial download of the weights."""
        return self.home / f"assets/vdm_pipeline/models/owner--name--{COMMIT}/{WEIGHTS}.part"


def write_repository(folder: Path) -> Path:
    """A repository with one pinned weight file, other weight files, and a configuration."""
    (folder / "unet").mkdir()
    (folder / WEIGHTS).write_bytes(np.random.default_rng(0).bytes(SIZE))
    (folder / "unet/config.json").write_text('{"a": 1}')
    (folder / "unet/other.safetensors").write_bytes(bytes(1000))
    (folder / "unet/pickle.bin").write_bytes(bytes(1000))
    return folder


def is_fetched(line: str, repository: Path) -> bool:
    """Whether ``line`` names a folder with the pinned weights and the configuration, and nothing else."""
    folder = Path(line.removeprefix("folder: "))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if names - {".fetched.json"} != {"unet/config.json", WEIGHTS}:
        return False
    return (folder / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()
