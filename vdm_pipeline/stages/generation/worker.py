"""One of several generation processes, started by ``accelerate launch -m <this module> JOB.json``."""

import sys
from pathlib import Path

from vdm_pipeline.io.progress import Progress, Throttle
from vdm_pipeline.stages.generation.image_generator import ImageGenerator
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.runtime.device import pick_device, pick_dtype
from vdm_pipeline.stages.runtime.launcher import check_num_processes, run_worker


def generate_share(job: Job) -> None:
    """Generate this process's share of the groups on its own device."""
    from accelerate import PartialState

    state = PartialState(cpu=pick_device(job.execution.device).type == "cpu")
    check_num_processes(job.execution.num_processes, state.num_processes)
    groups = job.groups()[state.process_index :: state.num_processes]
    image_generator = ImageGenerator(job, state.device, pick_dtype(state.device), _log)
    image_generator.generate(groups, progress_lines(state.process_index))
    state.destroy_process_group()


def _log(line: str) -> None:
    print(line, flush=True)


def progress_lines(process_index: int) -> Progress:
    """Progress as lines that the launcher logs."""
    throttle = Throttle()

    def report(done: int, total: int) -> None:
        if throttle.due(done=done >= total):
            _log(f"process {process_index}: {done}/{total} images")

    return report


def main(path: str) -> int:
    """Generate, and return the exit status."""

    def run() -> None:
        generate_share(Job.model_validate_json(Path(path).read_text(encoding="utf-8")))

    return run_worker(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
