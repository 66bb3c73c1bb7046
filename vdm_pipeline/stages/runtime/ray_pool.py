"""Run units of work on the workers of a Ray cluster; any worker gives the same result."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import Execution
from vdm_pipeline.stages.runtime.ray_cluster import connect

Task = Callable[[int], int]
"""Does a unit and returns its number of images; it may be called again for the same unit."""
TaskFactory = Callable[[Log], Task]
"""Loads what a worker needs, once per worker; takes the worker's log."""
MAX_RESTARTS = 3
"""Restarts of a worker that died, before the run fails."""
POLL_S = 1.0


def run_on_ray(
    make_task: TaskFactory,
    units: Sequence[int],
    execution: Execution,
    log: Log,
    progress: Callable[[int], None],
) -> list[str]:
    """Do each unit on one of ``execution.ray.workers`` workers; return the names of their devices.

    Workers write their results to the project folder, which all machines must share; only counts and log
    lines come back. ``progress`` gets the number of images of each finished unit. A killed worker is
    restarted, here or on another machine, and repeats its unit. Raises `PipelineError` with a worker's error,
    if a worker dies too often, and if Ray or the cluster is missing.
    """
    if not units:
        return []
    cluster, devices, seen = execution.ray, set[str](), set[str]()
    count = min(cluster.workers, len(units))
    with connect(cluster, count, log) as ray, _translate_ray_errors(ray):
        actor = ray.remote(
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
        )(Worker)
        workers = [actor.remote(make_task, execution) for _ in range(count)]
        for result in _results(ray, workers, units):
            if result.worker not in seen:
                log(f"Ray worker on {result.worker}")
                seen.add(result.worker)
            for line in result.lines:
                log(line)
            devices.add(result.device)
            progress(result.images)
    return sorted(devices)


@contextmanager
def _translate_ray_errors(ray: Any) -> Iterator[None]:
    """Raise `PipelineError` instead of Ray's errors."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PipelineError):
            raise error.cause from error
        raise PipelineError(f"A Ray worker failed: {error.cause!r}") from error
    except ray.exceptions.RayError as error:
        is_dead = isinstance(error, ray.exceptions.RayActorError)
        event = f"died {MAX_RESTARTS + 1} times" if is_dead else "is lost"
        raise PipelineError(
            f"A Ray worker {event} ({str(error).splitlines()[0]}); "
            "finished units are kept, see Ray's log and run again."
        ) from None


def _results(ray: Any, workers: list[Any], units: Sequence[int]) -> Iterator["UnitResult"]:
    """The result of each unit as it is done; a worker gets its next unit when it is free.

    All calls of Ray run in one other thread, as Ray garbles an exception that a signal handler raises within
    its calls.
    """
    pending, busy = iter(units), dict[Any, Any]()
    with ThreadPoolExecutor(1) as caller:

        def submit_next(worker: Any) -> None:
            unit = next(pending, None)
            if unit is not None:
                busy[caller.submit(worker.do.remote, unit).result()] = worker

        for worker in workers:
            submit_next(worker)
        while busy:
            ready, _ = caller.submit(ray.wait, list(busy), timeout=POLL_S).result()
            for reference in ready:
                submit_next(busy.pop(reference))
                yield caller.submit(ray.get, reference).result()


@dataclass(frozen=True)
class UnitResult:
    """A finished unit: its worker and device, the number of images, and the log lines since the last unit."""

    worker: str
    device: str
    images: int
    lines: list[str]


class Worker:
    """The actor that runs in each of Ray's processes."""

    def __init__(self, make_task: TaskFactory, execution: Execution) -> None:
        """Load nothing yet: Ray reports an error in here as if the process had died."""
        self.make_task, self.execution, self.lines = make_task, execution, list[str]()

    @cached_property
    def _task(self) -> Task:
        import torch

        from vdm_pipeline.stages.runtime.device import pick_device

        if pick_device(self.execution.device).type == "cuda" and not self.execution.ray.gpus:
            raise PipelineError(
                "execution.ray.gpus is 0, so Ray assigns no GPU to its workers and all would use the first; "
                'set gpus = 1, or execution.device = "cpu".'
            )
        torch.set_num_threads(max(1, int(self.execution.ray.cpus)))
        return self.make_task(self.lines.append)

    @cached_property
    def _device(self) -> str:
        from vdm_pipeline.stages.runtime.device import device_facts, pick_device

        facts = device_facts(pick_device(self.execution.device))
        memory = f", {facts['device_memory_gb']} GB" if "device_memory_gb" in facts else ""
        return f"{facts['device']} ({facts['dtype']}{memory})"

    def do(self, unit: int) -> UnitResult:
        """Do one unit."""
        images = self._task(unit)
        lines = list(self.lines)
        self.lines.clear()
        return UnitResult(f"{socket.gethostname()}, process {os.getpid()}", self._device, images, lines)
