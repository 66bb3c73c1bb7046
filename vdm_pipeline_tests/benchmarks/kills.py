"""Work killed again and again: ``python -m vdm_pipeline_tests.benchmarks.kills training|generation [--kills 20] [--signal SIGKILL]``.

A child process works, and is killed at a random moment; the next child goes on. When one reaches the end, what it made must
have the bytes of undisturbed work; then it all starts again in a new folder, until so many kills were done. The children are
forked from a process that has loaded everything and computed nothing, so that the moments fall into the work and not into
imports; every fourth kill waits for a file that is being written.

``training``: 25 steps of the embedded model with a checkpoint at every step. ``generation``: 64 images of it, two at a time.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vdm_pipeline.io.atomic import LEFTOVER
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.sampling import launch
from vdm_pipeline.stages.training import loop, samples  # noqa: F401  (loaded before the fork)
from vdm_pipeline.stages.training.adapter import WEIGHTS
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.stages.sampling import jobs as sampling_jobs
from vdm_pipeline_tests.stages.training import jobs as training_jobs

PROFILE = shrink(load_profile("demo"))


@dataclass(frozen=True)
class Work:
    """``run`` does the work in a folder or goes on with it, ``made`` are the bytes that count, ``writes`` where files are written."""

    run: Callable[[Path], None]
    made: Callable[[Path], dict[str, bytes]]
    writes: Callable[[Path], Path]


def train(root: Path) -> None:
    """A small training."""
    steps, often = {"steps": 25}, {"checkpoint_every": 1, "log_every": 20}
    loop.train(training_jobs.make_job(PROFILE, root, training=steps, execution=often), training_jobs.silent)


def generate(root: Path) -> None:
    """A small generation."""
    job = sampling_jobs.make_job(sampling_jobs.generating(PROFILE, per_class=32), root, batch=2)
    launch.generate(job, print, lambda *counts: None)


WORKS = {
    "training": Work(train, lambda root: {WEIGHTS: (root / "out" / WEIGHTS).read_bytes()}, lambda root: root / "state"),
    "generation": Work(generate, sampling_jobs.contents, lambda root: root),
}


def child(work: Work, root: Path) -> int:
    """Fork a process that works, and return its id."""
    root.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work.run(root)
            status = 0
        finally:
            os._exit(status)
    return pid


def undisturbed(work: Work, root: Path) -> tuple[dict[str, bytes], float]:
    """What is made when nothing is killed, and its seconds."""
    begun = time.perf_counter()
    assert os.waitpid(child(work, root), 0)[1] == 0, "the undisturbed work failed"
    return work.made(root), time.perf_counter() - begun


def writing(folder: Path) -> bool:
    """Whether a file is begun and has not its name yet."""
    try:
        return any(LEFTOVER.search(name) or name == "new.safetensors" for name in os.listdir(folder))
    except FileNotFoundError:
        return False


def wait_for_a_write(folder: Path) -> None:
    """Until a file is being written, or a quarter of a second has passed."""
    until = time.perf_counter() + 0.25
    while time.perf_counter() < until and not writing(folder):
        pass


def main() -> int:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", default="SIGKILL")
    asked = parser.parse_args()
    work = WORKS[asked.work]
    rng, kills, inside, finished, wrong = random.Random(0), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, seconds = undisturbed(work, folder / "whole")
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        while kills < asked.kills or not finished:
            root = folder / f"run{finished}"
            while True:
                pid = child(work, root)
                time.sleep(rng.uniform(0.1, seconds))
                if kills % 4 == 3:
                    wait_for_a_write(work.writes(root))
                if os.waitpid(pid, os.WNOHANG)[0]:
                    break
                os.kill(pid, getattr(signal, asked.signal))
                os.waitpid(pid, 0)
                kills += 1
                inside += writing(work.writes(root))
            finished += 1
            wrong += work.made(root) != whole
            print(f"{kills} kills, {inside} of them inside a write; {finished} finished, {wrong} with other bytes", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
