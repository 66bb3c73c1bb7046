"""Where the steps of a run are executed, as ``$VDM_EXECUTOR`` names it."""

import os
from collections.abc import Callable

import dagster as dg

from vdm_pipeline.errors import PipelineError

OF_THE_HUB = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE")
"""What a job is told of the model hub; not HF_TOKEN, as whoever may ask Ray of its jobs reads their variables."""


def executor() -> dg.ExecutorDefinition:
    """The executor that ``$VDM_EXECUTOR`` names, ``in_process`` if it names none; raises `PipelineError` for one that is not to be had."""
    name = os.environ.get("VDM_EXECUTOR") or "in_process"
    if name not in EXECUTORS:
        raise PipelineError(f"VDM_EXECUTOR is {name!r}, which is no executor; name one of {', '.join(EXECUTORS)}.")
    try:
        return EXECUTORS[name]()
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"VDM_EXECUTOR is {name}, and the package {error.name} is not installed; run: pip install 'vdm_pipeline[{name}]'"
        ) from None


def _k8s() -> dg.ExecutorDefinition:
    """A pod a step, one after the other, as a run works in its folder with one step at a time: none holds a GPU while it waits."""
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor.configured({"max_concurrent": 1}, name="k8s")


def _ray() -> dg.ExecutorDefinition:
    """A job a step on the Ray cluster whose job server `$RAY_ADDRESS` names; jobs are told this process's profile, folder and hub."""
    from dagster_ray import ray_executor

    if not os.environ.get("RAY_ADDRESS"):
        raise PipelineError("VDM_EXECUTOR is ray, and RAY_ADDRESS does not name its job server; set it, such as to http://127.0.0.1:8265.")
    ray_device_metadata = {key: value for key, value in os.environ.items() if key.startswith("VDM_") or key in OF_THE_HUB}
    ray_device_metadata["VDM_ROOT"] = os.path.abspath(os.environ.get("VDM_ROOT") or os.getcwd())  # a job starts in a folder of its own
    if ray_device_metadata.get("VDM_PROFILE", "").endswith(".toml"):
        ray_device_metadata["VDM_PROFILE"] = os.path.abspath(ray_device_metadata["VDM_PROFILE"])
    variables = [f"{key}={value}" for key, value in ray_device_metadata.items() if key != "VDM_EXECUTOR"]
    return ray_executor.configured({"ray": {"num_cpus": 1, "env_vars": variables}}, name="ray")


EXECUTORS: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    "in_process": lambda: dg.in_process_executor,
    "multiprocess": lambda: dg.multiprocess_executor,
    "k8s": _k8s,
    "ray": _ray,
}
