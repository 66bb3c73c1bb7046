"""Units of work spread over the workers of a Ray cluster; which worker does a unit changes nothing of it."""

import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Cluster, Execution

Log = Callable[[str], None]
Do = Callable[[int], int]
"""Does a unit, however often it is asked to, and counts its images."""
Make = Callable[[Log], Do]
"""Loads what a worker needs, once in each; told where its lines go."""
ANSWERS_S, LOOKS_S = 5.0, 1.0
LIVES = 3
"""How often a worker that died is started again before the work is given up."""


def spread(
    make: Make, units: Sequence[int], execution: Execution, log: Log, progress: Callable[[int], None]
) -> list[str]:
    """Do each of the units on one of ``execution.ray.workers`` workers, whichever is free; the devices that worked, each once.

    What a worker makes goes to the project folder, which all machines must share, so nothing but counts and lines comes back;
    progress is told each unit's images. A worker that is killed is started again, here or on another machine, and does its unit
    again. Raises `PipelineError` with the worker's sentence, where a worker died too often, and where there is no Ray or no such
    cluster.
    """
    cluster, devices = execution.ray, set[str]()
    if not units:
        return []
    count = min(cluster.workers, len(units))
    with _connected(cluster, count, log) as ray:
        options = {
            "num_cpus": cluster.cpus,
            "num_gpus": cluster.gpus,
            "max_restarts": LIVES,
            "max_task_retries": LIVES,
        }
        workers = [ray.remote(**options)(Worker).remote(make, execution) for _ in range(count)]
        met: set[str] = set()
        try:
            for done in _in_turn(ray, workers, units):
                for line in ([] if done.place in met else [f"Ray worker on {done.place}"]) + done.lines:
                    log(line)
                met.add(done.place)
                devices.add(done.device)
                progress(done.images)
        except ray.exceptions.RayTaskError as error:
            told = (
                error.cause
                if isinstance(error.cause, PipelineError)
                else PipelineError(f"A Ray worker failed: {error.cause!r}")
            )
            raise told from error
        except ray.exceptions.RayError as error:
            often = (
                f"died {LIVES + 1} times" if isinstance(error, ray.exceptions.RayActorError) else "is lost"
            )
            raise PipelineError(
                f"A Ray worker {often} ({str(error).splitlines()[0]}); what was made stands, look at Ray's log and run again."
            ) from None
    return sorted(devices)


def _in_turn(ray: Any, workers: list[Any], units: Sequence[int]) -> Iterator["Done"]:
    """Each unit as it is done. Ray is called in a thread of its own: what a signal raises within its calls does not come out whole."""
    left, busy = iter(units), dict[Any, Any]()
    with ThreadPoolExecutor(1) as caller:

        def hand_out(worker: Any) -> None:
            for unit in islice(left, 1):
                busy[caller.submit(worker.do.remote, unit).result()] = worker

        for worker in workers:
            hand_out(worker)
        while busy:
            ready, _ = caller.submit(ray.wait, list(busy), timeout=LOOKS_S).result()
            for reference in ready:
                hand_out(busy.pop(reference))
                yield caller.submit(ray.get, reference).result()


@dataclass(frozen=True)
class Done:
    """A unit that is done: where, on which device, how many images it has, and what was said meanwhile."""

    place: str
    device: str
    images: int
    lines: list[str]


class Worker:
    """What runs in each of Ray's processes."""

    def __init__(self, make: Make, execution: Execution) -> None:
        """Load nothing yet: Ray tells of a fault in here as of a process that died."""
        self.make, self.execution, self.lines = make, execution, list[str]()

    @cached_property
    def _work(self) -> Do:
        import torch

        from vdm_pipeline.stages.runtime.device import pick_device

        if pick_device(self.execution.device).type == "cuda" and not self.execution.ray.gpus:
            raise PipelineError(
                "execution.ray.gpus is 0, so Ray gives its workers no GPU of their own, and this one would take the first; "
                'set gpus = 1, or execution.device = "cpu".'
            )
        torch.set_num_threads(max(1, int(self.execution.ray.cpus)))
        return self.make(self.lines.append)

    @cached_property
    def _device(self) -> str:
        from vdm_pipeline.stages.runtime.device import device_facts, pick_device

        facts = device_facts(pick_device(self.execution.device))
        memory = f", {facts['device_memory_gb']} GB" if "device_memory_gb" in facts else ""
        return f"{facts['device']} ({facts['dtype']}{memory})"

    def do(self, unit: int) -> Done:
        """Do it."""
        images = self._work(unit)
        said, self.lines[:] = list(self.lines), []
        return Done(f"{socket.gethostname()}, process {os.getpid()}", self._device, images, said)


@contextmanager
def _connected(cluster: Cluster, workers: int, log: Log) -> Iterator[Any]:
    """Ray, connected to the cluster that the profile names, or to one of its own for the length of the block."""
    own = cluster.address is None
    wanted = {"CPU": workers * cluster.cpus, "GPU": workers * cluster.gpus}
    if own and wanted["CPU"] > (
        cores := len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ):
        raise PipelineError(
            f"This machine has {cores} cores of the {wanted['CPU']:g} that execution.ray asks for; lower workers or cpus."
        )
    ray = _library(own=own)
    options = {"num_cpus": math.ceil(wanted["CPU"]), "include_dashboard": False} if own else {}
    _refuse_silence(cluster.address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=cluster.address or "local", log_to_driver=False, logging_level="error", **options)
    except (
        ConnectionError,
        TimeoutError,
        RuntimeError,
        ValueError,
    ) as error:  # the last two: another version, a form it does not know
        raise _no_answer(cluster.address, error) from None
    if before and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's would end the process where it stands
    try:
        there = ray.cluster_resources() if own else ray.available_resources()
        _tell_what_lacks(there, wanted, log, own=own)
        yield ray
    finally:
        ray.shutdown()


def _refuse_silence(address: str | None) -> None:
    """Ray itself asks for minutes before it gives a silent address up, or the file that an ended cluster left for ``auto``."""
    where = address or ""
    if address == "auto":
        from ray._private.services import (
            get_ray_address_from_environment,  # nothing public tells what it would take
        )

        try:
            where = get_ray_address_from_environment("auto", None)
        except ConnectionError as error:
            raise _no_answer(address, error) from None
    host, found, port = where.removeprefix("ray://").rpartition(":")
    if found and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), ANSWERS_S).close()
        except OSError as error:
            raise _no_answer(address, error) from None


def _no_answer(address: str | None, error: Exception) -> PipelineError:
    return PipelineError(
        f"execution.ray.address is '{address}', where no Ray cluster answers, or one that asks for another token "
        f"({str(error).splitlines()[0]}); start one with: ray start --head, give it and this process RAY_AUTH_MODE=token and the same "
        "RAY_AUTH_TOKEN, or leave the address out."
    )


def _tell_what_lacks(there: Mapping[str, float], wanted: Mapping[str, float], log: Log, *, own: bool) -> None:
    """A cluster may grow, and others' work there ends, so that it is waited for, and the log says for what; one of our own cannot."""
    lacking = [
        f"{there.get(kind, 0):g} {kind} of {number:g}"
        for kind, number in wanted.items()
        if there.get(kind, 0) < number
    ]
    if lacking and own:
        raise PipelineError(
            f"This machine has {' and '.join(lacking)} that execution.ray asks for; lower workers, cpus or gpus."
        )
    if lacking:
        log(
            f"The Ray cluster has free {' and '.join(lacking)} that execution.ray asks for; the work waits for the rest."
        )


def _library(*, own: bool) -> Any:
    """Ray, told to send no statistics; a cluster of our own obeys only who knows its token, as Ray listens on every interface."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own and "RAY_AUTH_MODE" not in os.environ:
        if "ray" in sys.modules:  # which is when it reads these
            raise PipelineError(
                "Ray was imported before the token of a cluster of our own was made, so anybody could use that cluster; "
                "start a new process, or set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN before it."
            )
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ModuleNotFoundError:
        raise PipelineError(
            "execution.engine is 'ray', which is not installed; pip install 'vdm_pipeline[ray]', or set \"local\"."
        ) from None
    return ray
