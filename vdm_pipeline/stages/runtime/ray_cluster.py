"""The connection to a Ray cluster: one that runs already, or a local one that stops when the work ends."""

import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vdm_pipeline.errors import PipelineError, install_command
from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import Cluster

CONNECT_TIMEOUT_S = 5.0


@contextmanager
def connect(cluster: Cluster, workers: int, log: Log) -> Iterator[Any]:
    """Connect Ray for the block to the cluster at ``cluster.address``, or to a new one if it is None.

    Raises `PipelineError` if Ray is not installed, no cluster answers, or this machine lacks the resources.
    """
    own = cluster.address is None
    required = {"CPU": workers * cluster.cpus, "GPU": workers * cluster.gpus}
    if own:
        _check_cores(required["CPU"])
    ray = _import_ray(own=own)
    options: dict[str, Any] = {}
    if own:
        options = {"num_cpus": math.ceil(required["CPU"]), "include_dashboard": False}
    _check_address(cluster.address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=cluster.address or "local", log_to_driver=False, logging_level="error", **options)
    # RuntimeError: a cluster of another Ray version; ValueError: an address that Ray cannot parse
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise _unreachable(cluster.address, error) from None
    if handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own handler would end the process at once
    try:
        available = ray.cluster_resources() if own else ray.available_resources()
        _check_resources(available, required, log, own=own)
        yield ray
    finally:
        ray.shutdown()


def _check_cores(required: float) -> None:
    """Raise `PipelineError` if this process may not use so many cores."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    if required > cores:
        raise PipelineError(
            f"execution.ray requests {required:g} cores, but this machine has {cores}; lower workers or cpus."
        )


def _import_ray(*, own: bool) -> Any:
    """Ray, with usage statistics off.

    A local cluster requires a token, as Ray listens on every network interface. Ray reads these
    variables when it is imported.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own and "RAY_AUTH_MODE" not in os.environ:
        if "ray" in sys.modules:
            raise PipelineError(
                "Ray was imported before a token was set, so anybody could use the new cluster; "
                "start a new process, or set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN before the import."
            )
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ModuleNotFoundError:
        raise PipelineError(
            "execution.engine is 'ray', which is not installed; "
            f'set "local", or run: {install_command("ray")}'
        ) from None
    return ray


def _check_address(address: str | None) -> None:
    """Raise `PipelineError` if nothing listens at ``address``; Ray itself would try for minutes."""
    resolved = address or ""
    if address == "auto":
        try:
            resolved = _auto_address()
        except ConnectionError as error:
            raise _unreachable(address, error) from None
    host, separator, port = resolved.removeprefix("ray://").rpartition(":")
    if separator and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise _unreachable(address, error) from None


def _auto_address() -> str:
    """The address that Ray would use for ``auto``; there is no public function for it.

    It may come from a file that an ended cluster left behind. Raises ``ConnectionError`` if there is none.
    """
    from ray._private.services import get_ray_address_from_environment

    return get_ray_address_from_environment("auto", None)


def _unreachable(address: str | None, error: Exception) -> PipelineError:
    return PipelineError(
        f"execution.ray.address is '{address}', where no Ray cluster answers or one with another token "
        f"({str(error).splitlines()[0]}); start one with: ray start --head, set RAY_AUTH_MODE=token and the "
        "same RAY_AUTH_TOKEN for it and this process, or remove the address."
    )


def _check_resources(
    available: Mapping[str, float], required: Mapping[str, float], log: Log, *, own: bool
) -> None:
    """Log the CPUs and GPUs that an existing cluster lacks, or raise `PipelineError` for a local one.

    An existing cluster may grow or finish other work, so Ray waits for the resources.
    """
    missing = [
        f"{available.get(kind, 0):g} of {number:g} {kind}s"
        for kind, number in required.items()
        if available.get(kind, 0) < number
    ]
    if not missing:
        return
    if own:
        raise PipelineError(
            f"This machine has {' and '.join(missing)} that execution.ray requests; "
            "lower workers, cpus or gpus."
        )
    log(f"waiting for the Ray cluster: {' and '.join(missing)} that execution.ray requests are free")
