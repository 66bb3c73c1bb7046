"""A run that is killed while it holds the GPU pool, and the next one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from vdm_pipeline.dead_runs import fail_dead_runs
from vdm_pipeline.io.store import Store

MODULE = """
import os, signal
import dagster as dg
from pathlib import Path
from vdm_pipeline.dead_runs import fail_dead_runs
from vdm_pipeline.io.store import Store

def start(context):
    fail_dead_runs(context.instance, Store(Path.cwd()))

@dg.asset(pool="gpu", required_resource_keys={"run"})
def work():
    if os.environ["KILL"] == "yes":
        os.kill(os.getpid(), signal.SIGKILL)

defs = dg.Definitions([work], resources={"run": dg.ResourceDefinition(start)}, executor=dg.in_process_executor)
"""


def launch(folder: Path, *, kill: bool) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "-f", "module.py", "--select", "work"]
    environment = {key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"}
    environment |= {"KILL": "yes" if kill else "no"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an instance like the repository's own, in which a run was killed."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", tmp_path)
    (tmp_path / "module.py").write_text(MODULE)
    assert launch(tmp_path, kill=True).returncode == -9
    return tmp_path


def test_the_next_run_is_not_kept_waiting(killed):
    again = launch(killed, kill=False)
    assert again.returncode == 0, again.stderr
    with dg.DagsterInstance.from_config(str(killed)) as instance:
        assert sorted(run.status.value for run in instance.get_runs()) == ["FAILURE", "SUCCESS"]
        assert fail_dead_runs(instance, Store(killed)) == []


def test_a_run_that_lives_is_left_alone(killed):
    with dg.DagsterInstance.from_config(str(killed)) as instance:
        (run,) = instance.get_runs()
        living = subprocess.Popen(["sleep", "60"])
        try:
            instance.report_engine_event("by another process", run, EngineEventData.in_process(living.pid))
            assert fail_dead_runs(instance, Store(killed)) == []
        finally:
            living.kill()
            living.wait()
        assert fail_dead_runs(instance, Store(killed)) == [run.run_id]


def test_a_run_that_holds_the_folder_lives_whatever_the_clock_says(killed):
    """Its process seems to be younger than its events when the clock was set forward in the meantime."""
    store = Store(killed)
    with dg.DagsterInstance.from_config(str(killed)) as instance:
        (run,) = instance.get_runs()
        with store.working(run.run_id, print):
            assert fail_dead_runs(instance, store) == []
        with store.working("another run", print):
            assert fail_dead_runs(instance, store) == [run.run_id]
