"""A training killed again and again: ``python -m vdm_pipeline_tests.benchmarks.kills [--kills 200] [--signal SIGKILL]``.

A child process trains the embedded model for 25 steps with a checkpoint at every step, and is killed at a random moment; the
next child goes on. When one reaches the end, its adapter must have the bytes of an uninterrupted training; then it all starts
again in a new folder, until so many kills were done. The children are forked from a process that has loaded everything and
computed nothing, so that the moments fall into the training and not into imports.
"""

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from vdm_pipeline.io.atomic import LEFTOVER
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.training import loop, samples  # noqa: F401  (loaded before the fork)
from vdm_pipeline.stages.training.adapter import WEIGHTS
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.stages.training.jobs import make_job, silent

STEPS = 25


def job_in(root: Path) -> Job:
    """A training in a folder of its own."""
    root.mkdir()
    profile = shrink(load_profile("demo"))
    return make_job(profile, root, training={"steps": STEPS}, execution={"checkpoint_every": 1, "log_every": 20})


def child(job: Job) -> int:
    """Fork a process that trains, and return its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            loop.train(job, silent)
            status = 0
        finally:
            os._exit(status)
    return pid


def adapter(job: Job) -> str:
    """Digest of the finished adapter."""
    return hashlib.sha256((job.out / WEIGHTS).read_bytes()).hexdigest()


def uninterrupted(job: Job) -> tuple[str, float]:
    """The adapter of a training that nothing disturbs, and its seconds."""
    begun = time.perf_counter()
    assert os.waitpid(child(job), 0)[1] == 0, "the undisturbed training failed"
    return adapter(job), time.perf_counter() - begun


def _wait_for_a_write(state: Path) -> None:
    """Until a checkpoint is being written, or a quarter of a second has passed."""
    until = time.perf_counter() + 0.25
    while time.perf_counter() < until and not _writing(state):
        pass


def _writing(state: Path) -> bool:
    """Whether a checkpoint is begun and has not its name yet."""
    try:
        return any(LEFTOVER.search(name) or name == "new.safetensors" for name in os.listdir(state))
    except FileNotFoundError:
        return False


def main() -> int:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--signal", default="SIGKILL")
    asked = parser.parse_args()
    rng, kills, inside, finished, wrong = random.Random(0), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, seconds = uninterrupted(job_in(folder / "whole"))
        print(f"uninterrupted: {STEPS} steps, {seconds:.1f} s, adapter {whole[:16]}", flush=True)
        while kills < asked.kills:
            job = job_in(folder / f"run{finished}")
            while True:
                pid = child(job)
                time.sleep(rng.uniform(0.3, seconds))
                if kills % 4 == 3:
                    _wait_for_a_write(job.state)
                if os.waitpid(pid, os.WNOHANG)[0]:
                    break
                os.kill(pid, getattr(signal, asked.signal))
                os.waitpid(pid, 0)
                kills += 1
                inside += _writing(job.state)
            finished += 1
            wrong += adapter(job) != whole
            print(f"{kills} kills, {inside} of them inside a write; {finished} finished, {wrong} with other bytes", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
