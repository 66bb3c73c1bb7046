"""One of several processes: ``accelerate launch … -m vdm_pipeline.stages.sampling.worker JOB.json``."""

import sys
import time
from pathlib import Path

from vdm_pipeline.stages.generation.draw import ImageGenerator
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.runtime.device import pick_device, pick_dtype
from vdm_pipeline.stages.runtime.launcher import check_count, work

EVERY = 5.0
"""Seconds between two lines of progress."""


def draw(job: Job) -> None:
    """Draw this process's share on its own device."""
    from accelerate import PartialState

    state = PartialState(cpu=pick_device(job.execution.device).type == "cpu")
    check_count(job.execution.num_processes, state.num_processes)
    groups = job.groups()[state.process_index :: state.num_processes]
    ImageGenerator(job, state.device, pick_dtype(state.device), _say).generate(
        groups, Lines(state.process_index)
    )
    state.destroy_process_group()


def _say(line: str) -> None:
    print(line, flush=True)


class Lines:
    """Progress as lines that the launcher logs."""

    def __init__(self, rank: int) -> None:
        self.rank, self.last = rank, time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """Print now and then, and at the end."""
        if done >= total or time.perf_counter() - self.last >= EVERY:
            print(f"process {self.rank}: {done}/{total} images", flush=True)
            self.last = time.perf_counter()


def main(path: str) -> int:
    """Draw, and return the exit status."""
    return work(lambda: draw(Job.model_validate_json(Path(path).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
