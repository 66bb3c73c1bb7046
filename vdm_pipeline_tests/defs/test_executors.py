"""The executor that the environment names, and a run whose steps are processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.defs.executors import EXECUTORS, executor_from_environment
from vdm_pipeline.errors import PipelineError
from vdm_pipeline_tests.paths import ROOT

BIN = Path(sys.executable).parent
TWO = """
import os, time
from pathlib import Path
import dagster as dg
from vdm_pipeline import definitions as pipeline
from vdm_pipeline.executors import executor

def asset(name):
    @dg.asset(name=name, required_resource_keys={"run"})
    def made():
        begun = time.monotonic()
        time.sleep(1)
        Path(name).write_text(f"{begun} {time.monotonic()} {os.getpid()}")
    return made

defs = dg.Definitions([asset("one"), asset("two")], resources={"run": pipeline.defs.resources["run"]}, executor=executor_from_environment())
"""
"""Two steps that need nothing of each other, with the pipeline's own resource."""


def test_without_a_word_steps_run_in_the_runs_process(monkeypatch):
    monkeypatch.delenv("VDM_EXECUTOR", raising=False)
    assert executor_from_environment() is dg.in_process_executor


def test_kubernetes_has_one_pod_at_a_time(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "k8s")
    made = executor_from_environment()
    assert made.name == "k8s"
    assert made.config_schema.resolve_config({"config": {}}).value["config"]["max_concurrent"] == 1


def test_ray_has_a_job_a_step(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "ray")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    monkeypatch.setenv("VDM_PROFILE", "mine.toml")
    monkeypatch.setenv("VDM_ROOT", "here")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("HF_TOKEN", "secret")
    made = executor_from_environment()
    assert made.name == "ray"
    asked = made.config_schema.resolve_config({"config": {}}).value["config"]["ray"]
    assert asked["num_cpus"] == 1
    here = Path.cwd()
    assert {f"VDM_PROFILE={here}/mine.toml", f"VDM_ROOT={here}/here", "HF_HOME=/models"} <= set(
        asked["env_vars"]
    )
    assert not any(name.startswith(("VDM_EXECUTOR", "HF_TOKEN")) for name in asked["env_vars"])

    monkeypatch.delenv("VDM_ROOT")
    monkeypatch.setenv("VDM_PROFILE", "sd15")
    asked = executor_from_environment().config_schema.resolve_config({"config": {}}).value["config"]["ray"]
    assert {"VDM_PROFILE=sd15", f"VDM_ROOT={here}"} <= set(asked["env_vars"])


def test_ray_without_an_address_is_a_sentence(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        PipelineError, match=r"^VDM_EXECUTOR is ray, and RAY_ADDRESS does not name its job server"
    ):
        executor_from_environment()


def test_another_name_is_told_with_those_that_are_known(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "celery")
    with pytest.raises(
        PipelineError,
        match=r"^VDM_EXECUTOR is .celery., which is no executor; name one of in_process, multiprocess, k8s, r",
    ):
        executor_from_environment()


def test_a_package_that_is_missing_is_told_with_its_mend(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "k8s")
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)
    with pytest.raises(
        PipelineError, match=r"dagster_k8s is not installed; run: pip install 'vdm_pipeline\[k8s\]'$"
    ):
        executor_from_environment()


def test_no_executor_is_imported_before_it_is_named():
    code = "import sys, vdm_pipeline.definitions; print([name for name in ('dagster_k8s', 'kubernetes', 'ray') if name in sys.modules])"
    environment = {key: value for key, value in os.environ.items() if key != "VDM_EXECUTOR"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    )
    assert found.stdout.strip() == "[]", found.stderr


def test_steps_that_are_processes_of_their_own_work_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    (tmp_path / "two.py").write_text(TWO)
    command = [str(BIN / "dagster"), "asset", "materialize", "-m", "two", "--select", "*"]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))
    }
    environment |= {"VDM_EXECUTOR": "multiprocess", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    one, two = sorted(tuple(map(float, Path(name).read_text().split())) for name in ("one", "two"))
    assert one[1] <= two[0], "they overlap"
    assert one[2] != two[2]
    assert (
        f"Run {run.run_id} (process {one[2]:.0f}) works in {tmp_path / 'results'}; waiting for its end."
        in done.stderr
    )
    assert (tmp_path / "results/.lock").read_text() == "", "each step gave the lock back"
