"""From a work function to the Dagster asset of the same name."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from vdm_pipeline.defs.materialize import Work, materialize
from vdm_pipeline.graph import STAGES, code_version
from vdm_pipeline.incremental.project import Project, Upstream
from vdm_pipeline.settings import Execution, Profile

AssetFactory = Callable[[Profile], dg.AssetsDefinition]
GpuUse = Literal["none", "one", "one per process"]


def pipeline_asset(
    *,
    group: str,
    kinds: set[str],
    gpus: GpuUse = "none",
    supports_ray: bool = False,
    low_priority: bool = False,
) -> Callable[[Work], AssetFactory]:
    """Decorator: the asset of the function's name, with the inputs that `vdm_pipeline.graph` lists.

    Assets that use GPUs share the pool ``gpu``, so one step uses a GPU at a time.
    ``supports_ray``: the work can run on the workers of a Ray cluster.
    ``low_priority``: Dagster starts the asset after all other ready steps.
    """

    def decorate(work: Work) -> AssetFactory:
        def build(profile: Profile) -> dg.AssetsDefinition:
            return _build_asset(work, profile, group, kinds, gpus, supports_ray, low_priority)

        return build

    return decorate


def _build_asset(
    work: Work,
    profile: Profile,
    group: str,
    kinds: set[str],
    gpus: GpuUse,
    supports_ray: bool,
    low_priority: bool,
) -> dg.AssetsDefinition:
    name, uses_gpu = work.__name__, gpus != "none"
    tags = _gpu_tags(profile.execution, gpus, supports_ray=supports_ray) if uses_gpu else {}
    if low_priority:
        tags["dagster/priority"] = "-1"

    @dg.asset(
        name=name,
        description=inspect.getdoc(work),
        deps=list(STAGES[name].inputs),
        code_version=code_version(name, profile),
        group_name=group,
        kinds=kinds,
        owners=["team:vdm_pipeline"],
        tags={"device": "gpu" if uses_gpu else "cpu"},
        pool="gpu" if uses_gpu else None,
        output_required=False,
        op_tags=tags,
    )
    def asset(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
    ) -> Iterator[dg.MaterializeResult]:
        yield from materialize(
            context, project, _with_device_metadata(work, supports_ray) if uses_gpu else work
        )

    return asset


def _gpu_tags(execution: Execution, gpus: GpuUse, *, supports_ray: bool) -> dict[str, Any]:
    """GPUs that a step requests from Kubernetes or Ray, where it is a pod or a job.

    None without CUDA. None where Ray's workers use the GPUs: the waiting step would hold them.
    """
    if execution.device in ("cpu", "mps") or (supports_ray and execution.engine == "ray"):
        return {}
    count = execution.num_processes if gpus == "one per process" else 1
    limits = {"nvidia.com/gpu": str(count)}
    return {
        "dagster-k8s/config": {"container_config": {"resources": {"limits": limits}}},
        "dagster-ray/config": {"num_gpus": count},
    }


def _with_device_metadata(work: Work, supports_ray: bool) -> Work:
    """The work, whose metadata also holds its device, precision, and the GPU's memory."""

    @wraps(work)
    def measured(
        context: dg.AssetExecutionContext, project: Project, staging: Path, upstream: Upstream, /
    ) -> dict[str, Any]:
        from vdm_pipeline.stages.runtime.device import device_facts, pick_device, reset_device_peak

        execution = project.profile.execution
        if supports_ray and execution.engine == "ray":
            return {"device": "no Ray worker was needed"} | work(context, project, staging, upstream)
        device = pick_device(execution.device)
        reset_device_peak(device)
        metadata = work(context, project, staging, upstream)
        return metadata | device_facts(device)

    return measured


def ray_device_metadata(devices: list[str]) -> dict[str, Any]:
    """Metadata that lists the devices of Ray's workers, if any worked."""
    return {"device": f"Ray: {'; '.join(devices)}"} if devices else {}
