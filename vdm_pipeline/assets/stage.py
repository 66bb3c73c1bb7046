"""From a function that does a stage's work to the asset that Dagster knows."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import dagster as dg

from vdm_pipeline.assets.catalogue import STAGES
from vdm_pipeline.assets.materialize import Work, materialize
from vdm_pipeline.resources import Inputs, Run

ONE_GPU: dict[str, Any] = {
    "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
    "dagster-ray/config": {"num_gpus": 1},
}
"""What a step asks of Kubernetes or of Ray, where it is a pod or a job; other executors do not look at it."""


def stage(
    *, group: str, kinds: set[str], gpu: bool = False, spreads: bool = False, late: bool = False
) -> Callable[[Work], dg.AssetsDefinition]:
    """The asset of the function's name, which the table of stages tells the inputs of.

    Those with ``gpu`` share a pool, so that one GPU is used by one step at a time, and are given one where a step is a pod; those
    that are ``spreads`` work on a cluster where the profile says so. ``late``: after all else that could be made.
    """
    op_tags = (ONE_GPU if gpu else {}) | ({"dagster/priority": "-1"} if late else {})

    def define(work: Work) -> dg.AssetsDefinition:
        name = work.__name__

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
            op_tags=op_tags,
        )
        def made(context: dg.AssetExecutionContext, run: dg.ResourceParam[Run]) -> Iterator[dg.MaterializeResult]:
            yield from materialize(context, run, _on_device(work, spreads=spreads) if gpu else work)

        return made

    return define


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
