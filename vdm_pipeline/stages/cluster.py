"""Units of work spread over the workers of a Ray cluster; which worker does a unit changes nothing of it."""

import math
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Cluster

Log = Callable[[str], None]
Do = Callable[[int], int]
"""Does a unit, however often it is asked to, and counts its images."""
Make = Callable[[Log], Do]
"""Loads what a worker needs, once in each; told where its lines go."""
ANSWERS_S = 5.0
LIVES = 3
"""How often a worker that died is started again before the work is given up."""


def spread(make: Make, units: list[int], cluster: Cluster, log: Log, progress: Callable[[int], None]) -> None:
    """Do each of the units on one of ``cluster.workers`` workers, whichever is free; progress is told each unit's images.

    What a worker makes goes to the project folder, which all machines must share, so nothing but counts and lines comes back. A
    worker that is killed is started again, here or on another machine, and does its unit again. Raises `PipelineError` with the
    worker's sentence, where a worker died too often, and where there is no Ray or no such cluster.
    """
    if not units:
        return
    with _connected(cluster, log) as ray:
        from ray.util import ActorPool

        options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_restarts": LIVES, "max_task_retries": LIVES}
        kind = ray.remote(**options)(Worker)
        workers = [kind.remote(make) for _ in range(min(cluster.workers, len(units)))]
        met: set[str] = set()
        try:
            for name, images, lines in ActorPool(workers).map_unordered(lambda worker, unit: worker.do.remote(unit), units):
                for line in ([] if name in met else [f"Ray worker on {name}"]) + lines:
                    log(line)
                met.add(name)
                progress(images)
        except ray.exceptions.RayTaskError as error:
            told = error.cause if isinstance(error.cause, PipelineError) else PipelineError(f"A Ray worker failed: {error.cause!r}")
            raise told from error
        except ray.exceptions.RayActorError as error:
            died = f"A Ray worker died {LIVES + 1} times ({str(error).splitlines()[0]})"
            raise PipelineError(f"{died}; what was made stands, look at Ray's log and run again.") from None


class Worker:
    """What runs in each of Ray's processes."""

    def __init__(self, make: Make) -> None:
        """Load nothing yet: Ray tells of a fault in here as of a process that died."""
        self.make, self.lines = make, list[str]()

    @cached_property
    def _work(self) -> Do:
        return self.make(self.lines.append)

    def do(self, unit: int) -> tuple[str, int, list[str]]:
        """Machine and process, images of the unit, and what was said meanwhile."""
        images = self._work(unit)
        said, self.lines[:] = list(self.lines), []
        return f"{socket.gethostname()}, process {os.getpid()}", images, said


@contextmanager
def _connected(cluster: Cluster, log: Log) -> Iterator[Any]:
    """Ray, connected to the cluster that the profile names, or to one of its own for the length of the block."""
    ray = _library(own=cluster.address is None)
    own = {"num_cpus": math.ceil(cluster.workers * cluster.cpus), "include_dashboard": False} if cluster.address is None else {}
    _refuse_silence(cluster.address)
    try:
        ray.init(address=cluster.address or "local", log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, TimeoutError) as error:
        raise _no_answer(cluster.address, error) from None
    try:
        _tell_what_lacks(ray.cluster_resources(), cluster, log)
        yield ray
    finally:
        ray.shutdown()


def _refuse_silence(address: str | None) -> None:
    """Ray itself asks for minutes before it gives a silent address up."""
    host, found, port = (address or "").removeprefix("ray://").rpartition(":")
    if found and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), ANSWERS_S).close()
        except OSError as error:
            raise _no_answer(address, error) from None


def _no_answer(address: str | None, error: Exception) -> PipelineError:
    return PipelineError(
        f"execution.ray.address is '{address}', where no Ray cluster answers ({str(error).splitlines()[0]}); "
        "start one with: ray start --head, give it and this process the same RAY_AUTH_TOKEN, or leave the address out."
    )


def _tell_what_lacks(there: dict[str, float], cluster: Cluster, log: Log) -> None:
    """A cluster may grow, so that too small a one is waited for, and the log says for what; one of our own cannot."""
    wanted = {"CPU": cluster.workers * cluster.cpus, "GPU": cluster.workers * cluster.gpus}
    lacking = [f"{there.get(kind, 0):g} {kind} of {number:g}" for kind, number in wanted.items() if there.get(kind, 0) < number]
    if not lacking:
        return
    if cluster.address is None:
        raise PipelineError(f"This machine has {' and '.join(lacking)} that execution.ray asks for; lower workers, cpus or gpus.")
    log(f"The Ray cluster has {' and '.join(lacking)} that execution.ray asks for; the work waits for the rest.")


def _library(*, own: bool) -> Any:
    """Ray, told to send no statistics; a cluster of our own obeys only who knows its token, as Ray listens on every interface."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # read when Ray is imported
    try:
        import ray
    except ModuleNotFoundError:
        raise PipelineError(
            "execution.engine is 'ray', which is not installed; pip install 'vdm_pipeline[ray]', or set \"local\"."
        ) from None
    return ray
