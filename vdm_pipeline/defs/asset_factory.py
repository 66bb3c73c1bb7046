"""From a function that does a stage's work to the asset that Dagster knows, under a profile."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from vdm_pipeline.defs.materialize import Work, materialize
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.project import Inputs, Project
from vdm_pipeline.settings import Execution, Profile

Stage = Callable[[Profile], dg.AssetsDefinition]
GPUS = Literal["none", "one", "one a process"]


def stage(
    *, group: str, kinds: set[str], gpus: GPUS = "none", supports_ray: bool = False, low_priority: bool = False
) -> Callable[[Work], Stage]:
    """The asset of the function's name, which the table of stages tells the inputs of.

    Those that use ``gpus`` share a pool, so that a GPU is used by one step at a time, and are given theirs where a step is a pod or
    a job; those that are ``supports_ray`` work on a cluster where the profile says so. ``low_priority``: after all else that could be made.
    """
    gpu = gpus != "none"

    def define(work: Work) -> Stage:
        name = work.__name__

        @wraps(work)
        def under(profile: Profile) -> dg.AssetsDefinition:
            asked = _gpu_tags(profile.execution, gpus, supports_ray=supports_ray) if gpu else {}

            @dg.asset(
                name=name,
                description=inspect.getdoc(work),
                deps=list(STAGES[name].inputs),
                group_name=group,
                kinds=kinds,
                owners=["team:vdm_pipeline"],
                tags={"device": "gpu" if gpu else "cpu"},
                pool="gpu" if gpu else None,
                output_required=False,
                op_tags=asked | ({"dagster/priority": "-1"} if low_priority else {}),
            )
            def upstream(context: dg.AssetExecutionContext, run: dg.ResourceParam[Project]) -> Iterator[dg.MaterializeResult]:
                yield from materialize(context, run, _on_device(work, supports_ray=supports_ray) if gpu else work)

            return upstream

        return under

    return define


def _gpu_tags(execution: Execution, gpus: GPUS, *, supports_ray: bool) -> dict[str, Any]:
    """What a step asks of Kubernetes or of Ray, where it is a pod or a job; other executors do not look at it.

    Nothing on a device that is no CUDA, or where the workers of a cluster have the GPUs, which a waiting step would withhold.
    """
    if execution.device in ("cpu", "mps") or (supports_ray and execution.engine == "ray"):
        return {}
    count = execution.num_processes if gpus == "one a process" else 1
    return {
        "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}},
        "dagster-ray/config": {"num_gpus": count},
    }


def _on_device(work: Work, *, supports_ray: bool) -> Work:
    """The work, which also tells the device that did it, its precision and, of a GPU, its memory; of a cluster, its workers."""

    @wraps(work)
    def worked(context: dg.AssetExecutionContext, run: Project, staging: Path, upstream: Inputs, /) -> dict[str, Any]:
        from vdm_pipeline.stages.runtime.device import device_facts, forget_device_peak, pick_device

        execution = run.profile.execution
        if supports_ray and execution.engine == "ray":
            return {"device": "no worker of Ray was needed"} | work(context, run, staging, upstream)
        device = pick_device(execution.device)
        forget_device_peak(device)
        facts = work(context, run, staging, upstream)
        return facts | device_facts(device)

    return worked


def ray_device_metadata(devices: list[str]) -> dict[str, Any]:
    """What a record says of the workers of a cluster, if there were any."""
    return {"device": f"Ray: {'; '.join(devices)}"} if devices else {}
