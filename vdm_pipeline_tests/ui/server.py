"""``make ui`` in a project folder of its own, with all that it starts."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from vdm_pipeline.settings import Profile
from vdm_pipeline_tests.conftest import write_profile
from vdm_pipeline_tests.paths import ROOT
from vdm_pipeline_tests.postgres import database

PROJECT = ("Makefile", "pyproject.toml", "constraints.txt", "dagster.yaml")
STARTS_S = 120


@dataclass(frozen=True)
class Server:
    """A running webserver and daemon over ``root``; ``url`` is the UI's."""

    root: Path
    url: str

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What the UI's own interface answers to a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        with urlopen(
            Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"}), timeout=60
        ) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def runs(self) -> list[dict[str, Any]]:
        """Id, status and selected assets of every run, newest first."""
        query = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
        return self.ask(query)["runsOrError"]["results"]

    def unsynced(self) -> set[str]:
        """Assets that the UI marks as unsynced, or as never made."""
        nodes = self.ask("{ assetNodes { assetKey { path } staleStatus } }")["assetNodes"]
        return {node["assetKey"]["path"][0] for node in nodes if node["staleStatus"] != "FRESH"}


def project(root: Path, profile: Profile) -> Path:
    """What a clone has in its root, as far as ``make ui`` needs it, and the profile as ``small.toml``."""
    (root / "data").mkdir(parents=True)
    (root / ".venv").mkdir()
    for name in PROJECT:
        shutil.copy(ROOT / name, root)
    (root / ".venv/.installed").touch()
    write_profile(root / "small.toml", profile)
    return root


@contextmanager
def serving(root: Path, postgres: str | None = None) -> Iterator[Server]:
    """Start ``make ui`` there, and end it and all its children with the block.

    With a PostgreSQL server's URL the instance is the container's, over a fresh database there.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "VDM_PROFILE": "small.toml", "HOME": str(root / "home")}
    command = ["make", "ui", f"PORT={port}", f"BIN={Path(sys.executable).parent}"]
    with ExitStack() as held:
        if postgres:
            shutil.copy(ROOT / "docker/dagster.yaml", root)
            url = held.enter_context(database(postgres))
            environment["DAGSTER_POSTGRES_URL"] = url.render_as_string(hide_password=False)
        log = held.enter_context((root / "ui.log").open("w"))
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT)
        held.callback(kill_tree, process)
        server = Server(root, f"http://127.0.0.1:{port}")
        _until_it_answers(server, process)
        yield server


def kill_tree(process: subprocess.Popen) -> None:
    """End a process and all its children."""
    family = (
        [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    )
    for member in reversed(family):
        _end(member)
    process.wait(30)


def _until_it_answers(server: Server, process: subprocess.Popen) -> None:
    end = time.monotonic() + STARTS_S
    while True:
        try:
            if server.ask("{ assetNodes { id } }")["assetNodes"]:
                return
        except (URLError, ConnectionError, TimeoutError):
            pass
        said = (server.root / "ui.log").read_text()[-2000:]
        assert process.poll() is None and time.monotonic() < end, f"the UI does not start: {said}"
        time.sleep(0.5)


def _end(member: subprocess.Popen | psutil.Process) -> None:
    try:
        member.kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return
