"""Dagster's commands work with nothing exported, use one instance, and write nothing to the home folder."""

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from vdm_pipeline_tests.entry_points.process import files, run, start
from vdm_pipeline_tests.ui.server import kill_tree

SLOW_COMMANDS = {
    "dagster job execute -j relabel": "",
    "dagster-graphql -t {__typename}": '"__typename": "Query"',
}
RUNS = ("dagster asset materialize", "dagster job execute", "dg launch")
COMMANDS = {
    "dagster asset materialize --select raw_npz": "",
    "dagster asset list": "generated_images",
    "dagster asset wipe --all --noprompt": "Removed asset indexes",
    "dagster definitions validate": "All code locations passed validation",
    "dagster definitions validate -v": "All code locations passed validation",
    "dagster instance info": "SqliteRunStorage",
    "dagster job list": "relabel",
    "dagster run list": "",
    "dagster schedule list": "relabel",
    "dagster sensor list": "rematerialize_on_change",
    "dg check defs": "All definitions loaded successfully",
    "dg launch --assets raw_npz": "",
    "dg list defs --json": '"generated_images"',
}
SERVERS = {
    "dagster dev -p {port}": "/server_info",
    "dagster-webserver -p {port}": "/server_info",
    "dagster-daemon run": "",
}
READY_S = 120


@pytest.mark.parametrize(
    ("command", "expected"),
    [*COMMANDS.items(), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW_COMMANDS.items())],
)
def test_commands_write_nothing_to_the_home_folder(command, expected, root, home):
    before = files(root)
    code, output = run(command, root, home, VDM_PROFILE="small.toml")
    assert code == 0 and expected in output, output[-3000:]
    assert "superseded" not in output and "Warning" not in output and "usage statistics" not in output
    assert files(home) == set()
    created = files(root) - before
    assert {name.split("/")[0] for name in created} <= {"data", "results"}
    assert ("results/.manifests/raw_npz.json" in created) == command.startswith(RUNS)


def test_warnings_may_be_errors(root, home):
    """Dagster's own deprecated property must not stop its services."""
    code, output = run("dagster schedule list", root, home, PYTHONWARNINGS="error")
    assert code == 0 and "relabel" in output, output[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_servers_write_nothing_to_the_home_folder(server, root, home):
    before = files(root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(server.format(port=port), root, home, VDM_PROFILE="small.toml")
    try:
        _wait_until_ready(
            process, root, f"http://127.0.0.1:{port}{SERVERS[server]}" if SERVERS[server] else ""
        )
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):  # Dagster may miss the signal while a service starts
            process.wait(30)
    finally:
        kill_tree(process)
    assert files(home) == set()
    assert {name.split("/")[0] for name in files(root) - before} == {"results"}


def _wait_until_ready(process, root: Path, url: str) -> None:
    """Until the webserver answers; or, without one, until the daemon has reported that it lives."""
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()[-3000:]
        try:
            if urlopen(url).status == 200 if url else (root / "results/.dagster/schedules").exists():
                return
        except (URLError, ConnectionError):
            pass
        time.sleep(0.2)
    raise TimeoutError(url)


@pytest.mark.slow
def test_commands_share_one_instance(root, home):
    """A run of one command is in the list of another, in the database and in Python."""
    assert run("dg launch --assets raw_npz", root, home, VDM_PROFILE="small.toml")[0] == 0
    code, listed = run("dagster run list", root, home)
    assert code == 0 and listed.count("Run: ") == 1
    run("dagster asset materialize --select raw_npz", root, home, VDM_PROFILE="small.toml")
    assert run("dagster run list", root, home)[1].count("Run: ") == 2
    assert (root / "results/.dagster/history/runs.db").is_file()


@pytest.mark.parametrize(
    "command", ["dg launch --assets raw_npz", "dagster asset materialize --select raw_npz"]
)
def test_own_instance_is_used_and_gets_no_telemetry(command, root, home, tmp_path):
    """Its folder has no dagster.yaml, so Dagster alone would collect statistics there and at home."""
    own = tmp_path / "own"
    own.mkdir()
    code, output = run(command, root, home, VDM_PROFILE="small.toml", DAGSTER_HOME=str(own))
    assert code == 0, output[-3000:]
    assert files(home) == set()
    assert (own / "history/runs.db").is_file() and not (root / "results/.dagster").exists()
    assert not (own / "logs").exists() and not (own / ".telemetry").exists()


OTHER_FILE = """
import dagster as dg

@dg.asset
def other(): ...

defs = dg.Definitions([other], executor=dg.in_process_executor)
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("dagster asset materialize --select other -f other.py", marks=pytest.mark.slow),
        "dg scaffold defs dagster.asset x.py",
    ],
)
def test_commands_in_other_folders_record_no_telemetry_either(command, tmp_path, home):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/other.py").write_text(OTHER_FILE)
    _, output = run(command, tmp_path / "elsewhere", home)
    assert "usage statistics" not in output and files(home) == set()


def test_a_killed_run_leaves_no_temporary_folder(root, home):
    process = start("dagster asset materialize --select raw_npz", root, home, VDM_PROFILE="small.toml")
    end = time.monotonic() + READY_S
    while not (root / "results/.lock").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    kill_tree(process)
    assert [path.name for path in root.iterdir() if path.name.startswith(".tmp")] == []


@pytest.mark.slow
def test_switches_are_shared(root, home):
    """`dg` and `dagster` give the code location the same name, under which Dagster stores switches."""
    code, output = run("dagster sensor start rematerialize_on_change", root, home)
    assert code == 0, output
    assert "rematerialize_on_change [RUNNING]" in run("dagster sensor list", root, home)[1]
