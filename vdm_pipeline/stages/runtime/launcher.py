"""Start worker processes with accelerate, and report their log lines and errors."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.progress import Log
from vdm_pipeline.stages.runtime.environment import launchers_hidden

ERROR_PREFIX = "fault: "
"""Marks the line with which a worker reports its error."""
LAST_LINES = 15
"""Lines that are shown of a worker that died without an error line."""


def launch_workers(module: str, job: Path, num_processes: int, log: Log) -> None:
    """Run ``python -m module JOB`` in ``num_processes`` processes; ``log`` gets each line of output.

    The module must call `run_worker`. Raises `PipelineError` with a worker's error, or with the last lines of
    a worker that died.
    """
    with launchers_hidden():
        process = subprocess.Popen(
            _command(module, job, num_processes), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    last_lines: list[str] = []
    errors: list[str] = []
    try:
        for line in process.stdout or ():
            line = line.rstrip()
            last_lines = [*last_lines[-LAST_LINES:], line]
            if line.startswith(ERROR_PREFIX):
                errors.append(line.removeprefix(ERROR_PREFIX))
            else:
                log(line)
    finally:
        if process.poll() is None:
            process.terminate()
    if process.wait():
        if errors:
            raise PipelineError(errors[0])
        raise PipelineError(f"A process of {module} died; its last lines:\n" + "\n".join(last_lines))


def _command(module: str, job: Path, num_processes: int) -> list[str]:
    """``accelerate launch`` on this machine; a configuration file of the user is ignored.

    ``--multi_gpu`` makes accelerate start the processes itself, also on a CPU: each worker picks its device.
    With ``--cpu`` accelerate would leave that to mpirun, and with neither it starts a single process.
    """
    options = [
        "--multi_gpu",
        f"--num_processes={num_processes}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=0",
    ]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", module, str(job)]


def run_worker(run: Callable[[], None]) -> int:
    """Call ``run`` and return the exit status of the worker; errors are reported to `launch_workers`.

    An unexpected error is raised too, so that its traceback is logged.
    """
    threading.Thread(target=_exit_with_launcher, daemon=True).start()
    try:
        run()
    except PipelineError as error:
        print(f"{ERROR_PREFIX}{error}", flush=True)
        return 1
    except Exception as error:
        print(f"{ERROR_PREFIX}A worker process died: {error!r}", flush=True)
        raise
    return 0


def check_num_processes(requested: int, started: int) -> None:
    """Raise `PipelineError` unless ``execution.num_processes`` were started: a share would be left undone."""
    if started != requested:
        raise PipelineError(
            f"execution.num_processes is {requested}, but {started} were started; "
            "set execution.num_processes = 1, or as many as accelerate can start here."
        )


def _exit_with_launcher() -> None:
    """Exit when the pipe to the launcher breaks: a worker must not run beside those of the next run."""
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    pipe.poll()
    os._exit(1)
