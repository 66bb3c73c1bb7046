"""One of several processes: ``accelerate launch … -m vdm_pipeline.stages.training.worker JOB.json``."""

import sys
from pathlib import Path

from vdm_pipeline.stages.runtime.launcher import work
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.loop import train


def main(path: str) -> int:
    """Train, and return the exit status."""
    return work(
        lambda: train(
            Job.model_validate_json(Path(path).read_text(encoding="utf-8")),
            lambda line: print(line, flush=True),
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
