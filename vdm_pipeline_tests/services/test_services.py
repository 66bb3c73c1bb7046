"""What compose composes, started together with its own command lines: database, webserver and daemon, and a run through them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.conftest import shrink, write_profile
from vdm_pipeline_tests.postgres import database, run
from vdm_pipeline_tests.services.compose import DOCKER, compose
from vdm_pipeline_tests.ui.server import Server, end_family

ROOT = DOCKER.parent
BIN = Path(sys.executable).parent
SECONDS = 120
JOB = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "vdm_pipeline.definitions",
    "jobName": "__ASSET_JOB",
}
LAUNCH = "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename ... on LaunchRunSuccess { run { runId } } } }"


class Composed:
    """The services over a project folder: commands, environment and health checks are those of the compose file."""

    def __init__(self, root: Path, url: str, port: int):
        self.root, self.url, self.port = root, url, port
        self.services = compose(DAGSTER_POSTGRES_PASSWORD="unused", VDM_PROFILE="small.toml")["services"]
        self.given = {path.name for path in root.iterdir()} | {"webserver.log", "daemon.log"}

    def writable(self) -> set[str]:
        """What the webserver and the daemon may both write to, of the project folder."""
        places = (
            {*service["tmpfs"], *(volume.split(":")[1] for volume in service["volumes"])}
            for service in self.both()
        )
        return {
            Path(place).name for place in set.intersection(*places) if place.startswith("/srv/vdm_pipeline/")
        }

    def both(self) -> list[dict]:
        return [self.services[name] for name in ("webserver", "daemon")]

    def command(self, words: list[str]) -> list[str]:
        """A command line of the file, but for the address and the port: a container has its own."""
        here = {"0.0.0.0": "127.0.0.1", "3000": str(self.port)}
        return [
            str(BIN / words[0]),
            *(here.get(word, word.replace(":3000/", f":{self.port}/")) for word in words[1:]),
        ]

    def environment(self, service: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))}
        given = self.services[service]["environment"] | {"DAGSTER_POSTGRES_URL": self.url}
        return (
            kept
            | given
            | {"DAGSTER_HOME": str(self.root), "PYTHONPATH": str(ROOT), "HOME": str(self.root / "home")}
        )

    def start(self, service: str) -> subprocess.Popen:
        with (self.root / f"{service}.log").open("w") as log:
            words = self.command(self.services[service]["command"])
            return subprocess.Popen(
                words, cwd=self.root, env=self.environment(service), stdout=log, stderr=subprocess.STDOUT
            )

    def is_healthy(self, service: str, check: list[str]) -> bool:
        found = subprocess.run(
            self.command(check),
            cwd=self.root,
            env=self.environment(service),
            capture_output=True,
            timeout=SECONDS,
        )
        return found.returncode == 0

    def said(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.root.glob("*.log"))


@pytest.fixture
def composed(postgres, tmp_path) -> Iterator[Composed]:
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    shutil.copy(DOCKER / "dagster.yaml", root)
    shutil.copy(ROOT / "workspace.yaml", root)
    write_profile(root / "small.toml", shrink(load_profile("demo")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as held:
        url = held.enter_context(database(postgres))
        made = Composed(root, url.render_as_string(hide_password=False), port)
        for service in ("webserver", "daemon"):
            held.callback(end_family, made.start(service))
        yield made


def image_check() -> list[str]:
    """The image's own health check, which is the webserver's."""
    (found,) = re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", (DOCKER / "Dockerfile").read_text())
    return json.loads(found)


def until(holds, composed: Composed, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"{what}: not after {SECONDS} s; {composed.said()}"
        time.sleep(0.5)


def answers(composed: Composed) -> bool:
    try:
        return urlopen(f"http://127.0.0.1:{composed.port}/server_info", timeout=5).status == 200
    except (URLError, ConnectionError, TimeoutError):
        return False


def test_a_run_goes_through_webserver_daemon_and_database(composed):
    until(lambda: answers(composed), composed, "the webserver answers")
    assert composed.is_healthy("webserver", image_check())
    server = Server(composed.root, f"http://127.0.0.1:{composed.port}")
    asked = {
        "selector": JOB | {"assetSelection": [{"path": ["raw_npz"]}]},
        "mode": "default",
        "runConfigData": {},
    }
    launched = server.ask(LAUNCH, p=asked)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    until(lambda: server.runs()[0]["status"] in ("SUCCESS", "FAILURE"), composed, "the run ends")
    assert server.runs()[0]["status"] == "SUCCESS", composed.said()
    assert server.runs()[0]["runId"] == run_id
    query = f"SELECT count(*) FROM event_logs WHERE run_id = '{run_id}' AND dagster_event_type = 'ASSET_MATERIALIZATION'"
    assert run(composed.url, query) == [(1,)]
    assert run(composed.url, f"SELECT status FROM runs WHERE run_id = '{run_id}'") == [("SUCCESS",)]
    check = composed.services["daemon"]["healthcheck"]["test"][1:]
    until(lambda: composed.is_healthy("daemon", check), composed, "the daemon is healthy")

    assert list((composed.root / "data").iterdir()), "the archive is there"
    written = {path.name for path in composed.root.iterdir()} - composed.given
    assert written <= composed.writable(), "all else is read-only in the container"
    assert "results" in written
