"""Who can reach the UI, and what they can do with it."""

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
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.ui.server import Server, project, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed"),
]
SWITCH_ON = "mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename } }"
OTHER_SITE = "https://elsewhere.example"
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


def test_ui_listens_only_on_this_machine(server):
    """All that `make ui` starts: the webserver, the daemon and the code server."""
    started = {
        process.pid
        for process in psutil.process_iter()
        if process.pid != 0 and _runs_in(process, server.root)
    }
    connections = psutil.net_connections("inet")
    listening = [one for one in connections if one.status == psutil.CONN_LISTEN and one.pid in started]
    assert int(server.url.rsplit(":", 1)[1]) in {connection.laddr.port for connection in listening}
    assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::1"}


def _runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder
    except psutil.Error:  # it has ended, or belongs to another user
        return False


def test_ui_needs_no_login(server):
    """docs/security.md warns of it. If Dagster gets a login, remove the warning."""
    assert server.query(SWITCH_ON, s=RELABEL)["startSchedule"]["__typename"] == "ScheduleStateResult"


def test_page_of_another_site_can_send_requests_but_not_read_responses(server):
    """A browser sends a GET request for any page, without a preflight request."""
    query = urlencode({"query": SWITCH_ON, "variables": json.dumps({"s": RELABEL})})
    headers = {"Origin": OTHER_SITE, "Sec-Fetch-Site": "cross-site"}
    with urlopen(Request(f"{server.url}/graphql?{query}", headers=headers), timeout=60) as response:
        assert json.load(response)["data"]["startSchedule"]["__typename"] == "ScheduleStateResult"
        assert "Access-Control-Allow-Origin" not in response.headers


def test_page_of_another_site_can_subscribe_and_read(server):
    """A browser opens a websocket to any address for any page; the server must check the origin."""
    address = f"{server.url.replace('http', 'ws')}/graphql"
    query = 'subscription { pipelineRunLogs(runId: "of-no-run") { __typename } }'
    with connect(
        address, origin=Origin(OTHER_SITE), subprotocols=[Subprotocol("graphql-ws")], proxy=None
    ) as line:
        line.send(json.dumps({"type": "start", "id": "1", "payload": {"query": query}}))
        message = json.loads(line.recv(timeout=60))
    assert message["payload"]["data"]["pipelineRunLogs"]["__typename"] == "PipelineRunLogsSubscriptionFailure"


def test_ui_accepts_any_host_name(server):
    """A page whose host name resolves to 127.0.0.1 has the same origin as the UI, and can read everything."""
    request = Request(f"{server.url}/graphql?query={{version}}", headers={"Host": "elsewhere.example"})
    with urlopen(request, timeout=60) as response:
        assert json.load(response)["data"]["version"]


@contextmanager
def read_only_webserver(server: Server) -> Iterator[Server]:
    """The read-only webserver of docs/security.md, for the same project."""
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
    viewer = Server(server.root, f"http://127.0.0.1:{port}")
    end = time.monotonic() + 120
    try:
        while True:
            try:
                viewer.query("{ version }")
                break
            except (URLError, ConnectionError):
                assert process.poll() is None and time.monotonic() < end, "the webserver does not start"
                time.sleep(0.5)
        yield viewer
    finally:
        process.terminate()
        process.wait(30)


def test_read_only_webserver_shows_but_changes_nothing(server, monkeypatch):
    monkeypatch.setenv("VDM_PROFILE", "small.toml")
    monkeypatch.setenv("DAGSTER_HOME", str(server.root))
    with read_only_webserver(server) as viewer:
        assert len(viewer.query("{ assetNodes { id } }")["assetNodes"]) == 14
        assert viewer.query(SWITCH_ON, s=RELABEL)["startSchedule"]["__typename"] == "UnauthorizedError"
