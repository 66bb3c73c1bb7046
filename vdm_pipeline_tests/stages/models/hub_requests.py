"""Processes that ask a hub on this machine for a pinned repository, and what came of it."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vdm_pipeline_tests.hub import COMMIT, Hub
from vdm_pipeline_tests.paths import ROOT

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
FAST = {
    "HF_HUB_DOWNLOAD_TIMEOUT": "2",
    "HF_HUB_ETAG_TIMEOUT": "2",
    "no_proxy": "*",
    "HF_TOKEN": "hf_secret",
    "PYTHONPATH": str(ROOT),
}


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
        variables = (
            os.environ
            | FAST
            | {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.home)}
            | self.environment
            | environment
        )
        return subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ask(self, **environment: str) -> str:
        """The last line that it says."""
        told, faults = self.start(**environment).communicate()
        assert "Traceback" not in faults, faults
        return told.splitlines()[-1]

    def part(self) -> Path:
        """What arrived of the weights."""
        return self.home / f"assets/vdm_pipeline/models/owner--name--{COMMIT}/{WEIGHTS}.part"


def fits(pattern: str, line: str) -> bool:
    """Whether the line is the pattern, in which each ``…`` stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("…")), line) is not None


def documented(heading: str) -> list[tuple[str, ...]]:
    """Rows of the table under a heading of ``docs/models.md``."""
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return rows[1:]


def write_repository(folder: Path) -> Path:
    """One pinned file of weights, other files that nobody asked for, and what describes them."""
    (folder / "unet").mkdir()
    (folder / WEIGHTS).write_bytes(np.random.default_rng(0).bytes(SIZE))
    (folder / "unet/config.json").write_text('{"a": 1}')
    (folder / "unet/other.safetensors").write_bytes(bytes(1000))
    (folder / "unet/pickle.bin").write_bytes(bytes(1000))
    return folder


def fetched(line: str, repository: Path) -> bool:
    """Whether all that was asked for is in the folder that the line tells, and nothing else."""
    folder = Path(line.removeprefix("folder: "))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {
        ".fetched.json"
    }
    return (
        files == {"unet/config.json", WEIGHTS}
        and (folder / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()
    )
