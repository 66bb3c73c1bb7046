"""Starts ``make ui`` in a temporary project folder, and ends all its processes."""

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
from vdm_pipeline_tests.paths import ROOT, make_project
from vdm_pipeline_tests.postgres import database
from vdm_pipeline_tests.profiles import write_profile

MAKE = ("Makefile", "constraints.txt")
START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Server:
    """A running webserver and daemon over ``root``; ``url`` is the UI's."""

    root: Path
    url: str

    def query(self, graphql: str, **variables: Any) -> dict[str, Any]:
        """The data that a GraphQL query returns."""
        body = json.dumps({"query": graphql, "variables": variables}).encode()
        request = Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as response:
            content = json.load(response)
        assert "errors" not in content, content["errors"]
        return content["data"]

    def runs(self) -> list[dict[str, Any]]:
        """Id, status and selected assets of every run, newest first."""
        query = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
        return self.query(query)["runsOrError"]["results"]

    def unsynced(self) -> set[str]:
        """Assets that the UI marks as unsynced or never materialized."""
        nodes = self.query("{ assetNodes { assetKey { path } staleStatus } }")["assetNodes"]
        return {node["assetKey"]["path"][0] for node in nodes if node["staleStatus"] != "FRESH"}


def project(root: Path, profile: Profile) -> Path:
    """Create a project folder with what ``make ui`` needs, and the profile as ``small.toml``."""
    (root / "data").mkdir(parents=True)
    (root / ".venv").mkdir()
    make_project(root)
    for name in MAKE:
        shutil.copy(ROOT / name, root)
    (root / ".venv/.installed").touch()
    write_profile(root / "small.toml", profile)
    return root


@contextmanager
def serving(root: Path, postgres: str | None = None) -> Iterator[Server]:
    """Run ``make ui`` in the folder while the block runs.

    With the URL of a PostgreSQL server, it uses the instance of the container image and a new database.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "VDM_PROFILE": "small.toml", "HOME": str(root / "home")}
    command = ["make", "ui", f"PORT={port}", f"BIN={Path(sys.executable).parent}"]
    with ExitStack() as stack:
        if postgres:
            shutil.copy(ROOT / "docker/dagster.yaml", root)
            url = stack.enter_context(database(postgres))
            environment["DAGSTER_POSTGRES_URL"] = url.render_as_string(hide_password=False)
        log = stack.enter_context((root / "ui.log").open("w"))
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(kill_tree, process)
        server = Server(root, f"http://127.0.0.1:{port}")
        _wait_until_ready(server, process)
        yield server


def kill_tree(process: subprocess.Popen) -> None:
    """Kill a process and all its children."""
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        for member in reversed([process, *children]):
            _kill(member)
    process.wait(30)


def _wait_until_ready(server: Server, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if server.query("{ assetNodes { id } }")["assetNodes"]:
                return
        except (URLError, ConnectionError, TimeoutError):
            pass
        log = (server.root / "ui.log").read_text()[-2000:]
        assert process.poll() is None and time.monotonic() < end, f"the UI does not start: {log}"
        time.sleep(0.5)


def _kill(member: subprocess.Popen | psutil.Process) -> None:
    try:
        member.kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return
