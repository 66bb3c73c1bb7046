"""The executor that ``$VDM_EXECUTOR`` names."""

import os
from collections.abc import Callable

import dagster as dg

from vdm_pipeline.errors import PipelineError, install_command

HUB_VARIABLES = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE")
"""Passed on to Ray jobs. Not HF_TOKEN: whoever may list Ray's jobs can read their variables."""


def executor_from_environment() -> dg.ExecutorDefinition:
    """The executor that ``$VDM_EXECUTOR`` names; ``in_process`` if it is unset.

    Raises `PipelineError` for an unknown name, or one whose package is not installed.
    """
    name = os.environ.get("VDM_EXECUTOR") or "in_process"
    if name not in EXECUTORS:
        raise PipelineError(
            f"VDM_EXECUTOR is {name!r}, which is not an executor; use one of {', '.join(EXECUTORS)}."
        )
    try:
        return EXECUTORS[name]()
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"VDM_EXECUTOR is {name}, but the package {error.name} is not installed; "
            f"run: {install_command(name)}"
        ) from None


def _k8s() -> dg.ExecutorDefinition:
    """One pod per step, one at a time, so that no waiting pod holds a GPU."""
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor.configured({"max_concurrent": 1}, name="k8s")


def _ray() -> dg.ExecutorDefinition:
    """One Ray job per step, on the cluster whose job server ``$RAY_ADDRESS`` names."""
    from dagster_ray import ray_executor

    if not os.environ.get("RAY_ADDRESS"):
        raise PipelineError(
            "VDM_EXECUTOR is ray, but RAY_ADDRESS is not set; "
            "set it to Ray's job server, such as http://127.0.0.1:8265."
        )
    variables = [f"{key}={value}" for key, value in _ray_job_environment().items()]
    return ray_executor.configured({"ray": {"num_cpus": 1, "env_vars": variables}}, name="ray")


def _ray_job_environment() -> dict[str, str]:
    """This process's profile, project folder and hub. Paths are absolute: a job starts in its own folder."""
    variables = {
        key: value
        for key, value in os.environ.items()
        if key != "VDM_EXECUTOR" and (key.startswith("VDM_") or key in HUB_VARIABLES)
    }
    variables["VDM_ROOT"] = os.path.abspath(os.environ.get("VDM_ROOT") or os.getcwd())
    if variables.get("VDM_PROFILE", "").endswith(".toml"):
        variables["VDM_PROFILE"] = os.path.abspath(variables["VDM_PROFILE"])
    return variables


EXECUTORS: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    "in_process": lambda: dg.in_process_executor,
    "multiprocess": lambda: dg.multiprocess_executor,
    "k8s": _k8s,
    "ray": _ray,
}
