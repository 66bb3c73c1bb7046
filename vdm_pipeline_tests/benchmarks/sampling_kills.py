"""A generation killed again and again: ``python -m vdm_pipeline_tests.benchmarks.sampling_kills [--kills 20] [--signal SIGKILL]``.

A child process draws 64 images of the embedded model two at a time, and is killed at a random moment; the next child goes on.
When one reaches the end, its folder must have the bytes of an uninterrupted generation; then it all starts again in a new one,
until so many kills were done. The children are forked from a process that has loaded everything and computed nothing, so that
the moments fall into the generation and not into imports; every fourth waits for the writing of an image.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from vdm_pipeline.io.atomic import LEFTOVER
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.sampling import launch
from vdm_pipeline.stages.sampling.job import Job
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.stages.sampling.jobs import contents, generating, make_job

PER_CLASS, BATCH = 32, 2


def job_in(folder: Path) -> Job:
    """A generation into a folder of its own."""
    return make_job(generating(shrink(load_profile("demo")), per_class=PER_CLASS), folder, batch=BATCH)


def child(job: Job) -> int:
    """Fork a process that generates, and return its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            launch.generate(job, print, lambda *counts: None)
            status = 0
        finally:
            os._exit(status)
    return pid


def _wait_for_a_write(folder: Path) -> None:
    """Until an image is being written, or a quarter of a second has passed."""
    until = time.perf_counter() + 0.25
    while time.perf_counter() < until and not _writing(folder):
        pass


def _writing(folder: Path) -> bool:
    """Whether a file is begun and has not its name yet."""
    return folder.exists() and any(LEFTOVER.search(name) for name in os.listdir(folder))


def main() -> int:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", default="SIGKILL")
    asked = parser.parse_args()
    rng, kills, inside, finished, wrong = random.Random(0), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        root, begun = Path(name), time.perf_counter()
        assert os.waitpid(child(job_in(root / "whole")), 0)[1] == 0, "the undisturbed generation failed"
        seconds, whole = time.perf_counter() - begun, contents(root / "whole")
        print(f"uninterrupted: {len(whole) - 1} images, {seconds:.1f} s", flush=True)
        while kills < asked.kills or finished == 0:
            job = job_in(root / f"run{finished}")
            while True:
                pid = child(job)
                time.sleep(rng.uniform(0.1, seconds))
                if kills % 4 == 3:
                    _wait_for_a_write(job.folder)
                if os.waitpid(pid, os.WNOHANG)[0]:
                    break
                os.kill(pid, getattr(signal, asked.signal))
                os.waitpid(pid, 0)
                kills += 1
                inside += _writing(job.folder)
            finished += 1
            wrong += contents(job.folder) != whole
            print(f"{kills} kills, {inside} of them inside a write; {finished} finished, {wrong} with other bytes", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
