"""Work in several processes that accelerate starts: what the launcher and its workers agree on."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from vdm_pipeline.errors import PipelineError

FAULT = "fault: "
"""How a worker begins the line that tells why it ends."""
TAIL = 15


def launch(worker: str, job: Path, processes: int, log: Callable[[str], None]) -> None:
    """Run ``python -m worker JOB`` in so many processes, whose main ends in `work`; every line of theirs goes to ``log``.

    Raises `PipelineError` with the worker's sentence, or with the last lines of a worker that died.
    """
    process = subprocess.Popen(
        _command(worker, job, processes), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
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
        raise PipelineError(
            faults[0] if faults else f"A process of {worker} died; its last lines:\n" + "\n".join(lines)
        )


def _command(worker: str, job: Path, processes: int) -> list[str]:
    """``accelerate launch`` on this machine, without a configuration file of the user's.

    ``--multi_gpu`` is the way that starts processes by itself, and the worker picks its device; with ``--cpu`` accelerate
    leaves that to mpirun, and without one starts a single process.
    """
    options = [
        "--multi_gpu",
        f"--num_processes={processes}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=0",
    ]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", worker, str(job)]


def work(do: Callable[[], None]) -> int:
    """A worker's exit status after ``do``; what ends it is a line that `launch` knows, before the traceback of what is no user's fault."""
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    try:
        do()
    except PipelineError as error:
        print(f"{FAULT}{error}", flush=True)
        return 1
    except Exception as error:
        print(f"{FAULT}A worker process died: {error!r}", flush=True)
        raise
    return 0


def check_count(asked: int, started: int) -> None:
    """Raise `PipelineError` if there are not as many processes as ``execution.num_processes`` asks for: a share would be left undone."""
    if started != asked:
        raise PipelineError(
            f"execution.num_processes is {asked}, but {started} were started; "
            "set execution.num_processes = 1, or as many as accelerate can start here."
        )


def _end_with_the_launcher() -> None:
    """A launcher that was killed reads no lines: the pipe breaks, and no worker goes on beside the next run's."""
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)
    pipe.poll()
    os._exit(1)
