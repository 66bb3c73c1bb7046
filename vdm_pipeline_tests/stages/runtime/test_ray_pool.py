"""A Ray cluster on this machine: the bytes of the local engine, whoever is killed, and a sentence where it cannot be."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Cluster, Execution, Profile
from vdm_pipeline.stages.data.archive import obtain_archive
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.labelling.embedding_job import EmbeddingJob, embed_images
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.runtime import device
from vdm_pipeline.stages.runtime import ray_pool as module
from vdm_pipeline.stages.runtime.ray_pool import Do, Log, spread
from vdm_pipeline_tests.stages.generation.jobs import contents, with_generation, make_job
from vdm_pipeline_tests.stages.generation.test_launch import one_thread

if find_spec("ray") is None:
    pytest.skip("ray is not installed; pip install 'vdm_pipeline[ray]'", allow_module_level=True)
IMAGES = {"train": 1100, "val": 24, "test": 24}
"""Five shards, three of them of train."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers of one core on a cluster that runs beside the tests and wants a token, as those that `ray start` starts do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = pytest.MonkeyPatch()  # undone below: nothing of it is left for other tests
    for key, value in {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
    }.items():
        told.setenv(key, value)
    options = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    said = tmp_path_factory.mktemp("ray") / "head.log"
    with said.open("w") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options], stdout=log, stderr=log
        )
    end = time.monotonic() + 120
    while not (address := re.search(r"--address='([^']+)'", said.read_text())):
        assert head.poll() is None and time.monotonic() < end, said.read_text()
        time.sleep(0.2)
    yield Cluster(address=address[1], workers=2)
    for process in (*psutil.Process(head.pid).children(recursive=True), head):
        process.kill()
    head.wait(60)
    told.undo()


def on(profile: Profile, cluster: Cluster) -> Profile:
    return profile.model_copy(
        update={"execution": profile.execution.model_copy(update={"engine": "ray", "ray": cluster})}
    )


class Killer:
    """Hears of the workers, and kills the first of them when its first unit is done."""

    def __init__(self) -> None:
        self.workers, self.killed = list[int](), False

    def log(self, line: str) -> None:
        if line.startswith("Ray worker on "):
            self.workers.append(int(line.split()[-1]))

    def progress(self, done: int, total: int) -> None:
        if not self.killed:
            os.kill(self.workers[0], signal.SIGKILL)
        self.killed, self.last = True, (done, total)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> tuple[Path, dict]:
    """Rendered once; its path and the settings that it was rendered by."""
    from vdm_pipeline.settings import load_profile

    data = load_profile("demo").data.model_copy(update=IMAGES)
    return obtain_archive(data, tmp_path_factory.mktemp("data"), lambda line: None), data


def embedded(
    profile: Profile, archive, folder: Path, log: Log, progress: Callable[[int, int], None]
) -> dict[str, bytes]:
    path, data = archive
    job = EmbeddingJob(path, data, profile.classes.names, EMBEDDED / "clip", folder, profile.execution)
    embed_images(job, log, progress)
    return contents(folder)


def test_embeddings_are_those_of_the_local_engine_though_a_worker_is_killed(tiny, archive, ours, tmp_path):
    with one_thread():
        local = embedded(tiny, archive, tmp_path / "local", print, lambda *counts: None)
    killer = Killer()
    found = embedded(on(tiny, ours), archive, tmp_path / "ray", killer.log, killer.progress)
    assert len(local) == 5
    assert found == local
    assert killer.killed and len(set(killer.workers)) >= 2
    assert killer.last == (sum(IMAGES.values()), sum(IMAGES.values()))


def test_images_are_those_of_the_local_engine_though_a_worker_is_killed(tiny, ours, tmp_path):
    """And when one is missing it alone is drawn; when none is, no cluster is asked."""
    profile = with_generation(tiny, per_class=20)
    with one_thread():
        generate(make_job(profile, tmp_path / "local", batch=2), print, lambda *counts: None)
    killer, job = Killer(), make_job(on(profile, ours), tmp_path / "ray", batch=2)
    generate(job, killer.log, killer.progress)
    whole = contents(tmp_path / "ray")
    assert whole == contents(tmp_path / "local")
    assert killer.killed and len(set(killer.workers)) >= 2
    assert killer.last == (40, 40)
    times = {path.name: path.stat().st_mtime_ns for path in job.folder.glob("*.png")}
    (job.folder / "gen_003.png").unlink()
    generate(job, killer.log, killer.progress)
    assert contents(job.folder) == whole
    assert [name for name, then in times.items() if (job.folder / name).stat().st_mtime_ns != then] == [
        "gen_003.png"
    ]
    generate(
        job.model_copy(update={"execution": on(tiny, Cluster(address="127.0.0.1:9")).execution}),
        killer.log,
        killer.progress,
    )


def test_a_workers_fault_is_its_sentence(tiny, ours, tmp_path):
    job = make_job(on(tiny, ours), tmp_path / "x")
    job = job.model_copy(update={"arm": job.arm.model_copy(update={"base": tmp_path})})
    with pytest.raises(PipelineError, match=r"is no Stable Diffusion folder: it lacks 'tokenizer'"):
        generate(job, print, lambda *counts: None)


def _dies(log: Log) -> Do:
    return lambda unit: os._exit(1)


def _fails(log: Log) -> Do:
    return lambda unit: 1 // 0


@pytest.mark.parametrize(
    ("make", "said"),
    [(_dies, r"^A Ray worker died 2 times"), (_fails, r"^A Ray worker failed: ZeroDivisionError")],
    ids=["dies", "fails"],
)
def test_work_that_cannot_be_done_is_a_sentence(ours, monkeypatch, make, said):
    monkeypatch.setattr(module, "LIVES", 1)
    with pytest.raises(PipelineError, match=said):
        spread(make, [0], Execution(engine="ray", ray=ours), print, lambda images: None)


OWN = """
import os, grpc, torch
from vdm_pipeline.settings import Cluster, Execution
from vdm_pipeline.stages.cluster import spread

def make(log):
    def do(unit):
        import ray
        try:
            ask = grpc.insecure_channel(ray.get_runtime_context().gcs_address).unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
            ask(b"", timeout=20)
        except grpc.RpcError as error:
            log(f"a stranger: {error.code().name}")
        log(f"unit {unit}, threads {torch.get_num_threads()}, statistics {os.environ['RAY_USAGE_STATS_ENABLED']}")
        return unit
    return do

spread(make, [3, 4, 5], Execution(ray=Cluster(workers=2)), print, print)
"""


def test_a_cluster_of_our_own_ends_with_the_work_and_obeys_nobody_else():
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", OWN], capture_output=True, text=True, env=environment, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert {f"unit {unit}, threads 1, statistics 0" for unit in (3, 4, 5)} <= set(said)
    assert sorted(line for line in said if line.isdigit()) == ["3", "4", "5"]
    assert said.count("a stranger: UNAUTHENTICATED") == 3
    workers = [int(line.split()[-1]) for line in said if line.startswith("Ray worker on ")]
    assert len(workers) == 2 and not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_no_cluster_is_a_sentence():
    with pytest.raises(
        PipelineError, match=r"^execution\.ray\.address is '127\.0\.0\.1:9', where no Ray cluster answers"
    ):
        spread(_fails, [1], Execution(ray=Cluster(address="127.0.0.1:9")), print, lambda images: None)


@pytest.mark.parametrize("left", [None, "127.0.0.1:9"])
def test_auto_without_a_cluster_is_a_sentence_though_one_left_its_address(tmp_path, monkeypatch, left):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    if left:
        (tmp_path / "ray/ray_current_cluster").write_text(left)
    monkeypatch.setattr(
        "ray._private.services.find_gcs_addresses", set
    )  # another test's cluster may run beside this one
    monkeypatch.setattr(
        "ray.init", lambda **given: pytest.fail("Ray is asked, which takes minutes to give it up")
    )
    with pytest.raises(
        PipelineError, match=r"^execution\.ray\.address is 'auto', where no Ray cluster answers"
    ):
        spread(_fails, [1], Execution(ray=Cluster(address="auto")), print, lambda images: None)


def test_a_cluster_of_our_own_without_a_token_is_not_started(monkeypatch):
    import ray

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray, "init", lambda **given: pytest.fail("Ray is started"))
    with pytest.raises(
        PipelineError, match=r"^Ray was imported before the token of a cluster of our own was made"
    ):
        spread(_fails, [1], Execution(ray=Cluster(workers=1)), print, lambda images: None)


def test_what_the_cluster_lacks_is_told():
    lines, wanted = [], {"CPU": 4.0, "GPU": 2.0}
    module._tell_what_lacks({"CPU": 2.0, "GPU": 1.0}, wanted, lines.append, own=False)
    assert lines == [
        "The Ray cluster has free 2 CPU of 4 and 1 GPU of 2 that execution.ray asks for; the work waits for the rest."
    ]
    with pytest.raises(
        PipelineError,
        match=r"^This machine has 0 GPU of 2 that execution\.ray asks for; lower workers, cpus or gpus\.$",
    ):
        module._tell_what_lacks({"CPU": 4.0}, wanted, lines.append, own=True)


def test_more_cores_than_there_are_is_a_sentence():
    asked = Execution(ray=Cluster(workers=500, cpus=2))
    with pytest.raises(
        PipelineError,
        match=r"^This machine has \d+ cores of the 1000 that execution\.ray asks for; lower workers or cpus\.$",
    ):
        spread(_fails, range(500), asked, print, lambda images: None)


@pytest.mark.parametrize(("gpus", "refused"), [(0.0, True), (0.5, False)])
def test_a_worker_takes_no_gpu_that_it_was_not_given(monkeypatch, gpus, refused):
    monkeypatch.setattr(device, "pick_device", lambda wanted: torch.device("cuda"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    worker = module.Worker(lambda log: lambda unit: 7, Execution(ray=Cluster(gpus=gpus)))
    with pytest.raises(PipelineError, match=r"^execution\.ray\.gpus is 0") if refused else nullcontext():
        assert worker._work(1) == 7


STOPPED = """
import signal, sys, time
from vdm_pipeline.settings import Cluster, Execution
from vdm_pipeline.stages.cluster import spread

def stop(*_):
    print("told to stop", flush=True)
    sys.exit(3)

def make(log):
    return lambda unit: time.sleep(0.2) or 1

signal.signal(signal.SIGTERM, stop)
spread(make, range(1000), Execution(ray=Cluster(workers=1)), print, lambda images: print("one", flush=True))
"""


def test_a_signal_reaches_whoever_asked_and_ends_the_cluster():
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    worker = next(int(line.split()[-1]) for line in process.stdout or () if line.startswith("Ray worker on "))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, "told to stop" in out) == (3, True), err[-2000:]
    assert "SystemError" not in err
    assert not Path(f"/proc/{worker}").exists()


def test_without_ray_it_is_a_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    job: Job = make_job(on(tiny, Cluster()), tmp_path / "x")
    with pytest.raises(
        PipelineError,
        match=r"^execution\.engine is 'ray', which is not installed; pip install 'vdm_pipeline\[ray\]'",
    ):
        generate(job, print, lambda *counts: None)
