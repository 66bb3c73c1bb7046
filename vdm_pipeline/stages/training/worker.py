"""One of several processes: ``accelerate launch … -m vdm_pipeline.stages.training.worker JOB.json``."""

import sys
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.launch import FAULT
from vdm_pipeline.stages.training.loop import train


def main(path: str) -> int:
    """Train; a fault of the user's is printed as one line that `launch` knows."""
    try:
        train(Job.model_validate_json(Path(path).read_text(encoding="utf-8")), lambda line: print(line, flush=True))
    except PipelineError as error:
        print(f"{FAULT}{error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
