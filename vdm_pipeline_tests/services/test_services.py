"""Webserver, daemon and database with the command lines of the compose file, and a run through them."""

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
from vdm_pipeline_tests.postgres import database, run
from vdm_pipeline_tests.profiles import shrink, write_profile
from vdm_pipeline_tests.services.compose import DOCKER, compose
from vdm_pipeline_tests.ui.server import Server, kill_tree

ROOT = DOCKER.parent
BIN = Path(sys.executable).parent
TIMEOUT_S = 120
JOB = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "vdm_pipeline.definitions",
    "jobName": "__ASSET_JOB",
}
LAUNCH = """mutation($p: ExecutionParams!) {
    launchRun(executionParams: $p) { __typename ... on LaunchRunSuccess { run { runId } } }
}"""


class ComposedServices:
    """The services in a project folder, with commands, environment and health checks of the compose file."""

    def __init__(self, root: Path, url: str, port: int):
        self.root, self.url, self.port = root, url, port
        self.services = compose(DAGSTER_POSTGRES_PASSWORD="unused", VDM_PROFILE="small.toml")["services"]
        self.initial_files = {path.name for path in root.iterdir()} | {"webserver.log", "daemon.log"}

    def writable(self) -> set[str]:
        """Folders of the project that both the webserver and the daemon may write to."""
        both = [self.services[name] for name in ("webserver", "daemon")]
        mounts = (
            {*service["tmpfs"], *(volume.split(":")[1] for volume in service["volumes"])} for service in both
        )
        shared = set.intersection(*mounts)
        return {Path(mount).name for mount in shared if mount.startswith("/srv/vdm_pipeline/")}

    def command(self, words: list[str]) -> list[str]:
        """A command line of the file, with an address and port of this machine."""
        here = {"0.0.0.0": "127.0.0.1", "3000": str(self.port)}
        rest = [here.get(word, word.replace(":3000/", f":{self.port}/")) for word in words[1:]]
        return [str(BIN / words[0]), *rest]

    def environment(self, service: str) -> dict[str, str]:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))
        }
        of_file = self.services[service]["environment"] | {"DAGSTER_POSTGRES_URL": self.url}
        paths = {"DAGSTER_HOME": str(self.root), "PYTHONPATH": str(ROOT), "HOME": str(self.root / "home")}
        return inherited | of_file | paths

    def start(self, service: str) -> subprocess.Popen:
        command = self.command(self.services[service]["command"])
        environment = self.environment(service)
        with (self.root / f"{service}.log").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def is_healthy(self, service: str, check: list[str]) -> bool:
        command, environment = self.command(check), self.environment(service)
        result = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, timeout=TIMEOUT_S
        )
        return result.returncode == 0

    def logs(self) -> str:
        """The ends of all log files."""
        return "\n".join(path.read_text()[-3000:] for path in self.root.glob("*.log"))


@pytest.fixture
def composed(postgres, tmp_path) -> Iterator[ComposedServices]:
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    shutil.copy(DOCKER / "dagster.yaml", root)
    shutil.copy(ROOT / "workspace.yaml", root)
    write_profile(root / "small.toml", shrink(load_profile("demo")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        url = stack.enter_context(database(postgres))
        services = ComposedServices(root, url.render_as_string(hide_password=False), port)
        for name in ("webserver", "daemon"):
            stack.callback(kill_tree, services.start(name))
        yield services


def image_check() -> list[str]:
    """The health check of the image, which is for the webserver."""
    (command,) = re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", (DOCKER / "Dockerfile").read_text())
    return json.loads(command)


def wait_until(condition, composed: ComposedServices, what: str) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {TIMEOUT_S} s; {composed.logs()}"
        time.sleep(0.5)


def is_up(composed: ComposedServices) -> bool:
    try:
        return urlopen(f"http://127.0.0.1:{composed.port}/server_info", timeout=5).status == 200
    except (URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.slow
def test_run_uses_webserver_daemon_and_database(composed):
    wait_until(lambda: is_up(composed), composed, "the webserver answers")
    assert composed.is_healthy("webserver", image_check())
    server = Server(composed.root, f"http://127.0.0.1:{composed.port}")
    params = {
        "selector": JOB | {"assetSelection": [{"path": ["raw_npz"]}]},
        "mode": "default",
        "runConfigData": {},
    }
    launched = server.query(LAUNCH, p=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]

    wait_until(lambda: server.runs()[0]["status"] in ("SUCCESS", "FAILURE"), composed, "the run ends")
    assert server.runs()[0]["status"] == "SUCCESS", composed.logs()
    assert server.runs()[0]["runId"] == run_id
    materializations = "event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
    assert run(composed.url, f"SELECT count(*) FROM {materializations} AND run_id = '{run_id}'") == [(1,)]
    assert run(composed.url, f"SELECT status FROM runs WHERE run_id = '{run_id}'") == [("SUCCESS",)]
    check = composed.services["daemon"]["healthcheck"]["test"][1:]
    wait_until(lambda: composed.is_healthy("daemon", check), composed, "the daemon is healthy")

    assert list((composed.root / "data").iterdir()), "the archive is missing"
    written = {path.name for path in composed.root.iterdir()} - composed.initial_files
    assert written <= composed.writable(), "everything else is read-only in the container"
    assert "results" in written
