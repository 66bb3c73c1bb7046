"""What the UI lets somebody do who reaches it, and who does."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psutil
import pytest
from websockets import Origin, Subprotocol
from websockets.sync.client import connect

from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.ui.server import Server, project, serving

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make is installed")
SWITCH_ON = "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }"
FOREIGN = "https://elsewhere.example"
RELABEL = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "vdm_pipeline.definitions",
    "scheduleName": "relabel",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        project(tmp_path_factory.mktemp("exposed") / "project", shrink(load_profile("demo")))
    ) as running:
        yield running


def test_it_listens_to_this_machine_alone(server):
    """The webserver, the daemon and the code server, all that `make ui` starts."""
    family = {
        process.pid
        for process in psutil.process_iter()
        if process.pid != 0 and _works_in(process, server.root)
    }
    listening = [
        at for at in psutil.net_connections("inet") if at.status == psutil.CONN_LISTEN and at.pid in family
    ]
    assert int(server.url.rsplit(":", 1)[1]) in {at.laddr.port for at in listening}
    assert {at.laddr.ip for at in listening} <= {"127.0.0.1", "::1"}


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder
    except psutil.Error:  # it has ended meanwhile, or is another user's
        return False


def test_whoever_reaches_it_may_do_all_without_a_login(server):
    """What docs/security.md warns of; should Dagster ever ask for a login, the warning is to go."""
    assert server.ask(SWITCH_ON, s=RELABEL)["startSchedule"]["__typename"] == "ScheduleStateResult"


def test_a_page_of_another_site_may_send_requests_and_not_read_answers(server):
    """What a browser sends for any page that it shows: a GET, without a question asked before."""
    query = urlencode({"query": SWITCH_ON, "variables": json.dumps({"s": RELABEL})})
    foreign = {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"}
    with urlopen(Request(f"{server.url}/graphql?{query}", headers=foreign), timeout=60) as answer:
        assert json.load(answer)["data"]["startSchedule"]["__typename"] == "ScheduleStateResult"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_of_another_site_may_subscribe_and_read(server):
    """A browser opens a websocket to any address for any page, and leaves it to the server to look at its origin."""
    address = f"{server.url.replace('http', 'ws')}/graphql"
    query = 'subscription { pipelineRunLogs(runId: "of-no-run") { __typename } }'
    with connect(
        address, origin=Origin(FOREIGN), subprotocols=[Subprotocol("graphql-ws")], proxy=None
    ) as line:
        line.send(json.dumps({"type": "start", "id": "1", "payload": {"query": query}}))
        told = json.loads(line.recv(timeout=60))
    assert told["payload"]["data"]["pipelineRunLogs"]["__typename"] == "PipelineRunLogsSubscriptionFailure"


def test_it_answers_to_any_name(server):
    """A page whose own name comes to lead to 127.0.0.1 is then of the UI's site, and reads everything."""
    with urlopen(
        Request(f"{server.url}/graphql?query={{version}}", headers={"Host": "elsewhere.example"}), timeout=60
    ) as answer:
        assert json.load(answer)["data"]["version"]


@contextmanager
def reading(server: Server) -> Iterator[Server]:
    """The webserver that docs/security.md tells how to start for those who are only to look, over the same project."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        Path(sys.executable).with_name("dagster-webserver"),
        "--read-only",
        "-m",
        "vdm_pipeline.definitions",
        "-p",
        str(port),
    ]
    process = subprocess.Popen(command, cwd=server.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    looking = Server(server.root, f"http://127.0.0.1:{port}")
    end = time.monotonic() + 120
    try:
        while True:
            try:
                looking.ask("{ version }")
                break
            except (URLError, ConnectionError):
                assert process.poll() is None and time.monotonic() < end, "the webserver does not start"
                time.sleep(0.5)
        yield looking
    finally:
        process.terminate()
        process.wait(30)


def test_a_webserver_for_reading_shows_and_changes_nothing(server, monkeypatch):
    monkeypatch.setenv("VDM_PROFILE", "small.toml")
    monkeypatch.setenv("DAGSTER_HOME", str(server.root))
    with reading(server) as looking:
        assert len(looking.ask("{ assetNodes { id } }")["assetNodes"]) == 14
        assert looking.ask(SWITCH_ON, s=RELABEL)["startSchedule"]["__typename"] == "UnauthorizedError"
