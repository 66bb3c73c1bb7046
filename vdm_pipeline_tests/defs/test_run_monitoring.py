"""A run that is killed while it holds the GPU pool, and the run after it."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.defs.run_monitoring import fail_orphaned_runs, report_worker_host
from vdm_pipeline.incremental.store import Store
from vdm_pipeline_tests.dagster_internals import EngineEventData
from vdm_pipeline_tests.paths import ROOT
from vdm_pipeline_tests.postgres import database

NO_PROCESS = 2**22 + 1
"""Not the id of a process: Linux counts to 2 ** 22."""
MODULE = """
import os, signal
import dagster as dg
from pathlib import Path
from vdm_pipeline.defs.run_monitoring import fail_orphaned_runs, report_worker_host
from vdm_pipeline.incremental.store import Store

def start(context):
    fail_orphaned_runs(context.instance, Store(Path.cwd()))
    report_worker_host(context.instance, context.run)

@dg.asset(pool="gpu", required_resource_keys={"project"})
def work():
    if os.environ["KILL"] == "yes":
        os.kill(os.getpid(), signal.SIGKILL)

defs = dg.Definitions(
    [work], resources={"project": dg.ResourceDefinition(start)}, executor=dg.in_process_executor
)
"""


def launch(folder: Path, *, kill: bool) -> subprocess.CompletedProcess:
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "asset",
        "materialize",
        "-f",
        "module.py",
        "--select",
        "work",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"}
    environment |= {"KILL": "yes" if kill else "no"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an instance like the repository's own, in which a run was killed."""
    return kill_one(tmp_path_factory.mktemp("killed"), ROOT / "dagster.yaml")


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, as the working directory."""
    shutil.copytree(killed_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def killed_in_postgres(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same with the container's instance."""
    with database(postgres) as url:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", url.render_as_string(hide_password=False))
        monkeypatch.chdir(tmp_path)
        yield kill_one(tmp_path, ROOT / "docker/dagster.yaml")


def kill_one(folder: Path, instance: Path) -> Path:
    shutil.copy(instance, folder)
    (folder / "module.py").write_text(MODULE)
    assert launch(folder, kill=True).returncode == -9
    return folder


def test_in_postgresql_only_the_machine_of_all_processes_fails_an_orphaned_run(
    killed_in_postgres, monkeypatch
):
    store = Store(killed_in_postgres)
    with dg.DagsterInstance.from_config(str(killed_in_postgres)) as instance:
        (run,) = instance.get_runs()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: "another")
            assert fail_orphaned_runs(instance, store) == []
        instance.report_engine_event("a step, somewhere", run, EngineEventData.in_process(NO_PROCESS))
        assert fail_orphaned_runs(instance, store) == []
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: NO_PROCESS)
            report_worker_host(instance, run)
        assert fail_orphaned_runs(instance, store) == [run.run_id]


def test_the_next_run_does_not_wait(killed):
    again = launch(killed, kill=False)
    assert again.returncode == 0, again.stderr
    with dg.DagsterInstance.from_config(str(killed)) as instance:
        assert sorted(run.status.value for run in instance.get_runs()) == ["FAILURE", "SUCCESS"]
        assert fail_orphaned_runs(instance, Store(killed)) == []


def test_slots_of_finished_runs_are_freed_and_slots_of_running_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("gpu", 1)
        ended = instance.add_run(dg.DagsterRun("job", status=dg.DagsterRunStatus.FAILURE))
        working = instance.add_run(dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED))
        assert storage.claim_concurrency_slot("gpu", ended.run_id, "step").is_claimed
        assert not storage.claim_concurrency_slot("gpu", working.run_id, "step").is_claimed
        assert fail_orphaned_runs(instance, Store(tmp_path)) == []
        assert storage.claim_concurrency_slot("gpu", working.run_id, "step").is_claimed
        assert fail_orphaned_runs(instance, Store(tmp_path)) == []
        assert storage.get_concurrency_run_ids() == {working.run_id}


def test_a_run_with_a_living_process_is_left_alone(killed):
    with dg.DagsterInstance.from_config(str(killed)) as instance:
        (run,) = instance.get_runs()
        living = subprocess.Popen(["sleep", "60"])
        try:
            instance.report_engine_event("by another process", run, EngineEventData.in_process(living.pid))
            assert fail_orphaned_runs(instance, Store(killed)) == []
        finally:
            living.kill()
            living.wait()
        assert fail_orphaned_runs(instance, Store(killed)) == [run.run_id]


def test_a_run_that_holds_the_folder_is_alive_whatever_the_clock_shows(killed):
    """Its process seems to be younger than its events when the clock was set forward in the meantime."""
    store = Store(killed)
    with dg.DagsterInstance.from_config(str(killed)) as instance:
        (run,) = instance.get_runs()
        with store.lock(run.run_id, print):
            assert fail_orphaned_runs(instance, store) == []
        with store.lock("another run", print):
            assert fail_orphaned_runs(instance, store) == [run.run_id]
