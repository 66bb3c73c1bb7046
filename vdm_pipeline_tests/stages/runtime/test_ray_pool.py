"""Work on a Ray cluster: the bytes of the local engine, also if a worker is killed, and errors of workers."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch

from vdm_pipeline.errors import PipelineError, install_command
from vdm_pipeline.io.progress import Log, Progress
from vdm_pipeline.settings import Cluster, Data, Execution, Profile, load_profile
from vdm_pipeline.stages.data.archive import obtain_archive
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.labelling.embedding_job import EmbeddingJob, embed_images
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.runtime import device
from vdm_pipeline.stages.runtime import ray_pool as module
from vdm_pipeline.stages.runtime.ray_pool import Task, run_on_ray
from vdm_pipeline_tests.stages.generation.jobs import contents, make_job, with_generation
from vdm_pipeline_tests.stages.generation.test_launch import one_thread

if find_spec("ray") is None:
    pytest.skip(f"ray is not installed; run: {install_command('ray')}", allow_module_level=True)
IMAGES = {"train": 1100, "val": 24, "test": 24}
"""Five shards, three of them of train."""


def no_progress(*counts: int) -> None:
    """Ignore progress."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster beside the tests, started by ``ray start`` with a token; it has two workers of one core."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
    options = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    log_file = tmp_path_factory.mktemp("ray") / "head.log"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with log_file.open("w") as log:
            head = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not (address := re.search(r"--address='([^']+)'", log_file.read_text())):
            assert head.poll() is None and time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.2)
        yield Cluster(address=address[1], workers=2)
        for process in (*psutil.Process(head.pid).children(recursive=True), head):
            process.kill()
        head.wait(60)


def on(profile: Profile, cluster: Cluster) -> Profile:
    """The profile with the engine ``ray``."""
    execution = profile.execution.model_copy(update={"engine": "ray", "ray": cluster})
    return profile.model_copy(update={"execution": execution})


class Killer:
    """Reads the workers from the log, and kills the first of them when its first unit is done."""

    def __init__(self) -> None:
        self.workers, self.killed = list[int](), False

    def log(self, line: str) -> None:
        if line.startswith("Ray worker on "):
            self.workers.append(int(line.split()[-1]))

    def progress(self, done: int, total: int) -> None:
        if not self.killed:
            os.kill(self.workers[0], signal.SIGKILL)
        self.killed, self.last_progress = True, (done, total)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> tuple[Path, Data]:
    """Path and settings of a rendered archive."""
    data = load_profile("demo").data.model_copy(update=IMAGES)
    return obtain_archive(data, tmp_path_factory.mktemp("data"), lambda line: None), data


def embeddings(profile: Profile, archive, folder: Path, log: Log, progress: Progress) -> dict[str, bytes]:
    path, data = archive
    job = EmbeddingJob(path, data, profile.classes.names, EMBEDDED / "clip", folder, profile.execution)
    embed_images(job, log, progress)
    return contents(folder)


@pytest.mark.slow
def test_embeddings_equal_those_of_the_local_engine_though_a_worker_is_killed(
    tiny, archive, cluster, tmp_path
):
    with one_thread():
        local = embeddings(tiny, archive, tmp_path / "local", print, no_progress)
    killer = Killer()
    on_ray = embeddings(on(tiny, cluster), archive, tmp_path / "ray", killer.log, killer.progress)
    assert len(local) == 5
    assert on_ray == local
    assert killer.killed and len(set(killer.workers)) >= 2
    assert killer.last_progress == (sum(IMAGES.values()), sum(IMAGES.values()))


@pytest.mark.slow
def test_images_equal_those_of_the_local_engine_though_a_worker_is_killed(tiny, cluster, tmp_path):
    """Only a missing image is generated again, and without missing images no cluster is needed."""
    profile = with_generation(tiny, per_class=20)
    with one_thread():
        generate(make_job(profile, tmp_path / "local", batch=2), print, no_progress)
    killer, job = Killer(), make_job(on(profile, cluster), tmp_path / "ray", batch=2)
    generate(job, killer.log, killer.progress)
    whole = contents(tmp_path / "ray")
    assert whole == contents(tmp_path / "local")
    assert killer.killed and len(set(killer.workers)) >= 2
    assert killer.last_progress == (40, 40)

    mtimes = {path.name: path.stat().st_mtime_ns for path in job.folder.glob("*.png")}
    (job.folder / "gen_003.png").unlink()
    generate(job, killer.log, killer.progress)
    assert contents(job.folder) == whole
    rewritten = [name for name, mtime in mtimes.items() if (job.folder / name).stat().st_mtime_ns != mtime]
    assert rewritten == ["gen_003.png"]

    unreachable = on(tiny, Cluster(address="127.0.0.1:9")).execution
    generate(job.model_copy(update={"execution": unreachable}), killer.log, killer.progress)


@pytest.mark.slow
def test_error_of_a_worker_is_raised(tiny, cluster, tmp_path):
    job = make_job(on(tiny, cluster), tmp_path / "x")
    without_base = job.model_copy(update={"arm": job.arm.model_copy(update={"base": tmp_path})})
    with pytest.raises(PipelineError, match=r"Stable Diffusion folder.* 'tokenizer'"):
        generate(without_base, print, no_progress)


def _dying(log: Log) -> Task:
    return lambda unit: os._exit(1)


def _failing(log: Log) -> Task:
    return lambda unit: 1 // 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_task", "message"),
    [(_dying, r"^A Ray worker died 2 times"), (_failing, r"^A Ray worker failed: ZeroDivisionError")],
    ids=["dies", "fails"],
)
def test_unit_that_never_succeeds_is_an_error(cluster, monkeypatch, make_task, message):
    monkeypatch.setattr(module, "MAX_RESTARTS", 1)
    with pytest.raises(PipelineError, match=message):
        run_on_ray(make_task, [0], Execution(engine="ray", ray=cluster), print, no_progress)


@pytest.mark.parametrize(("gpus", "is_error"), [(0.0, True), (0.5, False)])
def test_worker_uses_no_gpu_that_ray_did_not_assign(monkeypatch, gpus, is_error):
    monkeypatch.setattr(device, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    worker = module.Worker(lambda log: lambda unit: 7, Execution(ray=Cluster(gpus=gpus)))
    with pytest.raises(PipelineError, match=r"^execution\.ray\.gpus is 0") if is_error else nullcontext():
        assert worker._task(1) == 7
