"""A task that is killed again and again: ``python -m vdm_pipeline_tests.benchmarks.kills TASK [--kills 20]``.

A child process runs the task and is killed at a random moment; the next child resumes it. At every kill, the
files with their final names must have the bytes of an uninterrupted run. At the end, all files must. Then it
starts again in a new folder, until there were enough kills. The children are forked from a process that has
imported everything, so that the kills hit the task and not the imports. Every fourth kill waits for a file
that is being written.

- ``training``: 25 steps of the embedded model with a checkpoint at every step.
- ``generation``: 64 images of the embedded model in batches of two.
- ``whole``: the whole graph in Dagster with the smallest profile, with constants instead of times.
"""

import argparse
import importlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from vdm_pipeline.defs import materialize as materializing
from vdm_pipeline.io.atomic import LEFTOVER
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.evaluation import evaluate  # noqa: F401  (imported before the fork)
from vdm_pipeline.stages.generation import launch
from vdm_pipeline.stages.report import lineage, page  # noqa: F401
from vdm_pipeline.stages.training import log_window, loop, session
from vdm_pipeline.stages.training import sample_sheet as samples
from vdm_pipeline_tests.defs.assets import graph
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.stages.generation import jobs as sampling_jobs
from vdm_pipeline_tests.stages.training import jobs as training_jobs

PROFILE = shrink(load_profile("demo"))
LIBRARIES = (
    "cleanlab.filter",
    "diffusers.loaders",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "open_clip",
    "peft",
    "skimage.feature",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "torch.utils.flop_counter",
    "torchmetrics.image.fid",
)
"""Imported before the fork: the children would spend more time on imports than on work."""
REPRODUCIBLE = ("asset", "fingerprint", "code_version", "data_version", "inputs", "files", "settings")
"""Fields of a manifest that are the same in every run; the others are times and memory."""


@dataclass(frozen=True)
class Task:
    """``run`` starts or resumes in a folder; ``published`` returns the bytes of files with final names."""

    run: Callable[[Path], None]
    published: Callable[[Path], dict[str, bytes]]


def train(root: Path) -> None:
    """A small training."""
    training, execution = {"max_train_steps": 25}, {"checkpoint_every": 1, "log_every": 20}
    job = training_jobs.make_job(PROFILE, root, training=training, execution=execution)
    loop.train(job, training_jobs.silent)


def generate(root: Path) -> None:
    """A small generation."""
    job = sampling_jobs.make_job(sampling_jobs.with_generation(PROFILE, per_class=32), root, batch=2)
    launch.generate(job, print, lambda *counts: None)


def materialize_all(root: Path) -> None:
    """The whole graph with its own Dagster instance. Times and memory are replaced by constants."""
    (root / "data").mkdir(exist_ok=True)
    materializing.time = SimpleNamespace(perf_counter=lambda: 0.0)
    materializing.peak_resident_mb = lambda: 0.0
    log_window.LogWindow.steps_per_s = lambda means, step: 1.0
    lineage.images_per_second = lambda record: None
    session.peak_flops, loop.peak_memory_mb = lambda *_: 1e9, lambda *_: 0.0
    samples.STEPS = 2
    with graph.persistent_instance(root / "home") as instance:
        result = graph.materialize(PROFILE, root, instance=instance)
    assert result.success, graph.error_message(result)


def project_files(root: Path) -> dict[str, bytes]:
    """All files of a project that are not hidden, and the reproducible part of every manifest."""
    paths = [path for top in ("data", "results") for path in (root / top).rglob("*") if path.is_file()]
    names = {path: path.relative_to(root) for path in paths}
    content = {
        str(name): path.read_bytes()
        for path, name in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }
    for path in (root / "results/.manifests").glob("*.json"):
        if path.suffixes == [".json"]:
            manifest = json.loads(path.read_text())
            content[path.name] = json.dumps([manifest[field] for field in REPRODUCIBLE]).encode()
    return content


def weights(root: Path) -> dict[str, bytes]:
    """The adapter, if it exists."""
    path = root / "out" / LORA_WEIGHTS
    return {LORA_WEIGHTS: path.read_bytes()} if path.exists() else {}


TASKS = {
    "training": Task(train, weights),
    "generation": Task(generate, sampling_jobs.contents),
    "whole": Task(materialize_all, project_files),
}


def fork(task: Task, root: Path) -> int:
    """Fork a process that runs the task; returns its id."""
    root.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            task.run(root)
            status = 0
        finally:
            os._exit(status)
    return pid


def uninterrupted(task: Task, root: Path) -> tuple[dict[str, bytes], float]:
    """The files of a run that is not killed, and its seconds."""
    start = time.perf_counter()
    assert os.waitpid(fork(task, root), 0)[1] == 0, "the uninterrupted run failed"
    return task.published(root), time.perf_counter() - start


def is_writing(folder: Path) -> bool:
    """Whether a file is written that does not have its final name yet."""
    try:
        return any(LEFTOVER.search(path.name) or path.name == "new.safetensors" for path in folder.rglob("*"))
    except FileNotFoundError:  # a folder was published in the meantime
        return False


def wait_for_a_write(folder: Path) -> None:
    """Wait until a file is being written, or for a quarter of a second."""
    end = time.perf_counter() + 0.25
    while time.perf_counter() < end and not is_writing(folder):
        pass


def wait_for_exit(pid: int, seconds: float) -> int | None:
    """The exit status of a child, or None if it still runs after so many seconds."""
    end = time.perf_counter() + seconds
    while True:
        exited, status = os.waitpid(pid, os.WNOHANG)
        if exited or time.perf_counter() >= end:
            return status if exited else None
        time.sleep(0.01)


class Killer:
    """Kills a task at random moments, resumes it, and compares its files with an uninterrupted run."""

    def __init__(self, task: Task, folder: Path, kills: int, kind: str) -> None:
        self.task, self.folder, self.kills = task, folder, kills
        self.signal = getattr(signal, kind)
        self.random = random.Random(0)
        self.killed, self.inside_a_write, self.finished, self.differences = 0, 0, 0, 0
        self.expected, self.seconds = uninterrupted(task, folder / "uninterrupted")
        print(f"uninterrupted: {self.seconds:.1f} s, {len(self.expected)} files and manifests", flush=True)

    def run(self) -> int:
        """Run the task in new folders until it was killed often enough; returns the number of differences."""
        while self.killed < self.kills or not self.finished:
            self._run_to_the_end(self.folder / f"run{self.finished}")
        return self.differences

    def _run_to_the_end(self, root: Path) -> None:
        while not self._finishes(root):
            self.killed += 1
            self.inside_a_write += is_writing(root)
            self.differences += differences(self.task.published(root), self.expected, "at a kill")
        self.finished += 1
        published = self.task.published(root)
        self.differences += differences(published, self.expected, "at the end")
        self.differences += published.keys() != self.expected.keys()
        print(f"{self.killed} kills, {self.inside_a_write} of them inside a write; ", end="")
        print(f"{self.finished} finished, {self.differences} differences", flush=True)

    def _finishes(self, root: Path) -> bool:
        """Start or resume the task; kill it at a random moment unless it was killed often enough."""
        pid = fork(self.task, root)
        limit = self.random.uniform(0.1, self.seconds) if self.killed < self.kills else math.inf
        status = wait_for_exit(pid, limit)
        if status is None and self.killed % 4 == 3:
            wait_for_a_write(root)
            status = wait_for_exit(pid, 0)
        if status is None:
            os.kill(pid, self.signal)
            os.waitpid(pid, 0)
            return False
        assert status == 0, "the resumed task failed"
        return True


def differences(published: dict[str, bytes], expected: dict[str, bytes], when: str) -> int:
    """Number of files with other bytes than in the uninterrupted run; prints their names."""
    names = [name for name, content in published.items() if expected.get(name) != content]
    if names:
        print(f"{when}: {', '.join(names)}", flush=True)
    return len(names)


def main() -> int:
    """Kill, resume, compare; the exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", default="SIGKILL")
    arguments = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(TASKS[arguments.task], Path(folder), arguments.kills, arguments.signal)
        return int(killer.run() > 0)


if __name__ == "__main__":
    sys.exit(main())
