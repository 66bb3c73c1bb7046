"""The executor that the environment names, and a run whose steps are separate processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.defs.executors import executor_from_environment
from vdm_pipeline.errors import PipelineError
from vdm_pipeline_tests.paths import ROOT

BIN = Path(sys.executable).parent
TWO = """
import os, time
from pathlib import Path
import dagster as dg
from vdm_pipeline import definitions as pipeline
from vdm_pipeline.defs.executors import executor_from_environment

def asset(name):
    @dg.asset(name=name, required_resource_keys={"project"})
    def work():
        start = time.monotonic()
        time.sleep(1)
        Path(name).write_text(f"{start} {time.monotonic()} {os.getpid()}")
    return work

defs = dg.Definitions(
    [asset("one"), asset("two")],
    resources={"project": pipeline.defs.resources["project"]},
    executor=executor_from_environment(),
)
"""
"""Two independent steps with the pipeline's own resource."""


def test_by_default_steps_run_in_the_process_of_the_run(monkeypatch):
    monkeypatch.delenv("VDM_EXECUTOR", raising=False)
    assert executor_from_environment() is dg.in_process_executor


def test_kubernetes_has_one_pod_at_a_time(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "k8s")
    executor = executor_from_environment()
    assert executor.name == "k8s"
    assert executor.config_schema.resolve_config({"config": {}}).value["config"]["max_concurrent"] == 1


def test_ray_has_a_job_a_step(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "ray")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    monkeypatch.setenv("VDM_PROFILE", "mine.toml")
    monkeypatch.setenv("VDM_ROOT", "here")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("HF_TOKEN", "secret")
    executor = executor_from_environment()
    assert executor.name == "ray"
    config = executor.config_schema.resolve_config({"config": {}}).value["config"]["ray"]
    assert config["num_cpus"] == 1
    here = Path.cwd()
    assert {f"VDM_PROFILE={here}/mine.toml", f"VDM_ROOT={here}/here", "HF_HOME=/models"} <= set(
        config["env_vars"]
    )
    assert not any(name.startswith(("VDM_EXECUTOR", "HF_TOKEN")) for name in config["env_vars"])

    monkeypatch.delenv("VDM_ROOT")
    monkeypatch.setenv("VDM_PROFILE", "sd15")
    config = executor_from_environment().config_schema.resolve_config({"config": {}}).value["config"]["ray"]
    assert {"VDM_PROFILE=sd15", f"VDM_ROOT={here}"} <= set(config["env_vars"])


def test_ray_needs_an_address(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PipelineError, match="RAY_ADDRESS"):
        executor_from_environment()


def test_the_error_for_an_unknown_executor_lists_the_known_ones(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "celery")
    with pytest.raises(
        PipelineError,
        match=r"^VDM_EXECUTOR is .celery.*in_process, multiprocess, k8s, ray",
    ):
        executor_from_environment()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setenv("VDM_EXECUTOR", "k8s")
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)
    with pytest.raises(PipelineError, match=r"dagster_k8s .*pip install -c constraints\.txt -e '\.\[k8s\]'$"):
        executor_from_environment()


def test_no_executor_is_imported_before_it_is_named():
    names = ("dagster_k8s", "kubernetes", "ray")
    code = f"import sys, vdm_pipeline.definitions; print([name for name in {names} if name in sys.modules])"
    environment = {key: value for key, value in os.environ.items() if key != "VDM_EXECUTOR"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    )
    assert found.stdout.strip() == "[]", found.stderr


@pytest.mark.slow
def test_steps_in_separate_processes_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    (tmp_path / "two.py").write_text(TWO)
    command = [str(BIN / "dagster"), "asset", "materialize", "-m", "two", "--select", "*"]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("DAGSTER_", "VDM_"))
    }
    environment |= {"VDM_EXECUTOR": "multiprocess", "VDM_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    one, two = sorted(tuple(map(float, Path(name).read_text().split())) for name in ("one", "two"))
    assert one[1] <= two[0], "they overlap"
    assert one[2] != two[2]
    assert "is running in" not in done.stderr, "a step waits for another one of its run without a word"
    assert (tmp_path / "results/.lock").read_text() == "", "each step gave the lock back"
