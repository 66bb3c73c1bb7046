"""One of several processes: ``accelerate launch … -m vdm_pipeline.stages.training.worker JOB.json``."""

import os
import select
import sys
import threading
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.launch import FAULT
from vdm_pipeline.stages.training.loop import train


def main(path: str) -> int:
    """Train; what ends a training is printed as one line that `launch` knows, before the traceback of what is no user's fault."""
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    try:
        train(Job.model_validate_json(Path(path).read_text(encoding="utf-8")), lambda line: print(line, flush=True))
    except PipelineError as error:
        print(f"{FAULT}{error}", flush=True)
        return 1
    except Exception as error:
        print(f"{FAULT}A training process died: {error!r}", flush=True)
        raise
    return 0


def _end_with_the_launcher() -> None:
    """A launcher that was killed reads no lines: the pipe breaks, and no worker goes on beside the next run's."""
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    pipe.poll()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
