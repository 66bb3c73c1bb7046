"""A training in this process, or in several that accelerate starts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.stages.training.job import Job

FAULT = "fault: "
"""How a worker begins the line that tells why it ends."""
TAIL = 15


def run_training(job: Job, log: Callable[[str], None]) -> None:
    """Train as `train` does, in as many processes as ``execution.processes`` says; every line of theirs goes to ``log``.

    Raises `PipelineError` with the worker's sentence, or with the last lines of a worker that died.
    """
    if job.execution.processes == 1:
        from vdm_pipeline.stages.training.loop import train

        return train(job, log)
    path = job.state / "job.json"
    write_text(path, job.model_dump_json(indent=1))
    process = subprocess.Popen(_command(job, path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    faults: list[str] = []
    try:
        for line in process.stdout or ():
            lines = [*lines[-TAIL:], line.rstrip()]
            if line.startswith(FAULT):
                faults.append(line.removeprefix(FAULT).rstrip())
            else:
                log(line.rstrip())
    finally:
        if process.poll() is None:
            process.terminate()
    if process.wait():
        raise PipelineError(faults[0] if faults else "A training process died; its last lines:\n" + "\n".join(lines))
    return None


def _command(job: Job, path: Path) -> list[str]:
    """``accelerate launch`` on this machine, without a configuration file of the user's.

    ``--multi_gpu`` is the way that starts processes by itself, and the worker picks its device; with ``--cpu`` accelerate
    leaves that to mpirun, and without one starts a single process.
    """
    options = [
        "--multi_gpu",
        f"--num_processes={job.execution.processes}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=0",
    ]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "vdm_pipeline.stages.training.worker", str(path)]
