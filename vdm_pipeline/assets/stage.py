"""From a function that does a stage's work to the asset that Dagster knows, under a profile."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from vdm_pipeline.assets.catalogue import STAGES
from vdm_pipeline.assets.materialize import Work, materialize
from vdm_pipeline.resources import Inputs, Run
from vdm_pipeline.settings import Execution, Profile

Stage = Callable[[Profile], dg.AssetsDefinition]
GPUS = Literal["none", "one", "one a process"]


def stage(*, group: str, kinds: set[str], gpus: GPUS = "none", spreads: bool = False, late: bool = False) -> Callable[[Work], Stage]:
    """The asset of the function's name, which the table of stages tells the inputs of.

    Those that use ``gpus`` share a pool, so that a GPU is used by one step at a time, and are given theirs where a step is a pod or
    a job; those that are ``spreads`` work on a cluster where the profile says so. ``late``: after all else that could be made.
    """
    gpu = gpus != "none"

    def define(work: Work) -> Stage:
        name = work.__name__

        @wraps(work)
        def under(profile: Profile) -> dg.AssetsDefinition:
            asked = _gpu_tags(profile.execution, gpus, spreads=spreads) if gpu else {}

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
                op_tags=asked | ({"dagster/priority": "-1"} if late else {}),
            )
            def made(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> Iterator[dg.MaterializeResult]:
                yield from materialize(context, run, _on_device(work, spreads=spreads) if gpu else work)

            return made

        return under

    return define


def _gpu_tags(execution: Execution, gpus: GPUS, *, spreads: bool) -> dict[str, Any]:
    """What a step asks of Kubernetes or of Ray, where it is a pod or a job; other executors do not look at it.

    Nothing on a device that is no CUDA, or where the workers of a cluster have the GPUs, which a waiting step would withhold.
    """
    if execution.device in ("cpu", "mps") or (spreads and execution.engine == "ray"):
        return {}
    count = execution.processes if gpus == "one a process" else 1
    return {
        "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}},
        "dagster-ray/config": {"num_gpus": count},
    }


def _on_device(work: Work, *, spreads: bool) -> Work:
    """The work, which also tells the device that did it, its precision and, of a GPU, its memory; of a cluster, its workers."""

    @wraps(work)
    def worked(context: dg.AssetExecutionContext, run: Run, staging: Path, made: Inputs, /) -> dict[str, Any]:
        from vdm_pipeline.stages.device import device_facts, forget_device_peak, pick_device

        execution = run.profile.execution
        if spreads and execution.engine == "ray":
            return {"device": "no worker of Ray was needed"} | work(context, run, staging, made)
        device = pick_device(execution.device)
        forget_device_peak(device)
        facts = work(context, run, staging, made)
        return facts | device_facts(device)

    return worked


def told(devices: list[str]) -> dict[str, Any]:
    """What a record says of the workers of a cluster, if there were any."""
    return {"device": f"Ray: {'; '.join(devices)}"} if devices else {}
