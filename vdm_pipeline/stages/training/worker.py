"""One of several training processes, started by ``accelerate launch -m <this module> JOB.json``."""

import sys
from pathlib import Path

from vdm_pipeline.stages.runtime.launcher import run_worker
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.loop import train


def main(path: str) -> int:
    """Train, and return the exit status."""

    def run() -> None:
        job = Job.model_validate_json(Path(path).read_text(encoding="utf-8"))
        train(job, lambda line: print(line, flush=True))

    return run_worker(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
