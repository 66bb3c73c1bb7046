"""The connection to a Ray cluster: a local one stops when the work ends, and errors name the setting."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError, install_command
from vdm_pipeline.settings import Cluster, Execution
from vdm_pipeline.stages.runtime.ray_cluster import _check_resources, connect
from vdm_pipeline.stages.runtime.ray_pool import run_on_ray

if find_spec("ray") is None:
    pytest.skip(f"ray is not installed; run: {install_command('ray')}", allow_module_level=True)

NO_ANSWER = r"^execution\.ray\.address is '{}', where no Ray cluster answers"


def run(cluster: Cluster, units: range = range(1)) -> None:
    """Run units that the cluster must not reach."""
    run_on_ray(lambda log: pytest.fail, units, Execution(ray=cluster), print, lambda images: None)


def wait_until_ended(*workers: int, seconds: float = 30) -> None:
    """Ray stops a worker that the operating system may then take a moment to end."""
    end = time.monotonic() + seconds
    while left := [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
        assert time.monotonic() < end, f"workers {left} outlive their cluster by {seconds} s"
        time.sleep(0.1)


OWN_CLUSTER = """
import os, grpc, torch
from vdm_pipeline.settings import Cluster, Execution
from vdm_pipeline.stages.runtime.ray_pool import run_on_ray

METHOD = "/ray.rpc.NodeInfoGcsService/GetClusterId"

def make_task(log):
    def do(unit):
        import ray
        try:
            channel = grpc.insecure_channel(ray.get_runtime_context().gcs_address)
            channel.unary_unary(METHOD)(b"", timeout=20)
        except grpc.RpcError as error:
            log(f"without token: {error.code().name}")
        threads, statistics = torch.get_num_threads(), os.environ["RAY_USAGE_STATS_ENABLED"]
        log(f"unit {unit}, threads {threads}, statistics {statistics}")
        return unit
    return do

run_on_ray(make_task, [3, 4, 5], Execution(ray=Cluster(workers=2)), print, print)
"""


@pytest.mark.slow
def test_own_cluster_ends_with_the_work_and_requires_the_token():
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "OMP_"))}
    command = [sys.executable, "-c", OWN_CLUSTER]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = result.stdout.splitlines()
    assert {f"unit {unit}, threads 1, statistics 0" for unit in (3, 4, 5)} <= set(lines)
    assert sorted(line for line in lines if line.isdigit()) == ["3", "4", "5"]
    assert lines.count("without token: UNAUTHENTICATED") == 3
    workers = [int(line.split()[-1]) for line in lines if line.startswith("Ray worker on ")]
    assert len(workers) == 2
    wait_until_ended(*workers)


INTERRUPTED = """
import os, signal, sys, time
from vdm_pipeline.settings import Cluster, Execution
from vdm_pipeline.stages.runtime.ray_pool import run_on_ray

def stop(*_):
    os.write(1, b"handler called\\n")  # print must not interrupt a print
    sys.exit(3)

def make_task(log):
    return lambda unit: time.sleep(0.2) or 1

signal.signal(signal.SIGTERM, stop)
progress = lambda images: print("one", flush=True)
run_on_ray(make_task, range(1000), Execution(ray=Cluster(workers=1)), print, progress)
"""


@pytest.mark.slow
def test_signal_reaches_our_handler_and_ends_the_cluster():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    worker = next(int(line.split()[-1]) for line in process.stdout or () if line.startswith("Ray worker on "))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, "handler called" in out) == (3, True), err[-2000:]
    assert "SystemError" not in err
    wait_until_ended(worker)


def test_address_without_a_cluster_is_an_error():
    with pytest.raises(PipelineError, match=NO_ANSWER.format(r"127\.0\.0\.1:9")):
        run(Cluster(address="127.0.0.1:9"))


@pytest.mark.parametrize("left", [None, "127.0.0.1:9"])
def test_auto_without_a_cluster_is_an_error_though_an_ended_one_left_its_address(tmp_path, monkeypatch, left):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    if left:
        (tmp_path / "ray/ray_current_cluster").write_text(left)
    # another test's cluster may run beside this one
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray would try for minutes"))
    with pytest.raises(PipelineError, match=NO_ANSWER.format("auto")):
        run(Cluster(address="auto"))


def test_own_cluster_without_a_token_is_not_started(monkeypatch):
    import ray

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray is started"))
    with pytest.raises(PipelineError, match=r"^Ray was imported before a token was set"):
        run(Cluster(workers=1))


def test_missing_resources_are_logged_or_for_an_own_cluster_an_error():
    lines, required = [], {"CPU": 4.0, "GPU": 2.0}
    _check_resources({"CPU": 2.0, "GPU": 1.0}, required, lines.append, own=False)
    assert len(lines) == 1 and "2 of 4 CPUs and 1 of 2 GPUs" in lines[0]
    with pytest.raises(PipelineError, match=r"0 of 2 GPUs .*execution\.ray.*; lower workers, cpus or gpus"):
        _check_resources({"CPU": 4.0}, required, lines.append, own=True)
    _check_resources({"CPU": 4.0, "GPU": 2.0}, required, lines.append, own=True)
    assert len(lines) == 1


def test_more_cores_than_the_machine_has_are_an_error():
    with pytest.raises(PipelineError, match=r"^execution\.ray requests 1000 cores"):
        run(Cluster(workers=500, cpus=2), range(500))


def test_without_ray_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with (
        pytest.raises(PipelineError, match=r"^execution\.engine is 'ray'.* -e '\.\[ray\]'$"),
        connect(Cluster(workers=1), 1, print),
    ):
        pytest.fail("connected")
