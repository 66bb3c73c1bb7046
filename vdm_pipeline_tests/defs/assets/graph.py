"""Run the graph in the process of the test, and see what it computed and what Dagster calls stale."""

from contextlib import nullcontext
from pathlib import Path

import dagster as dg

from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import Profile
from vdm_pipeline_tests.dagster_internals import stale_in_dagster

TO_THE_SUBSET = [
    "raw_npz",
    "image_embeddings",
    "labeled_dataset",
    "label_metrics",
    "data_faults",
    "label_noise",
    "lora_subset",
]


def persistent_instance(home: Path) -> dg.DagsterInstance:
    """A Dagster instance that keeps its events in a folder."""
    home.mkdir(exist_ok=True)
    return dg.DagsterInstance.local_temp(str(home))


def materialize(
    profile: Profile,
    root: Path,
    selection: list[str] | None = None,
    instance: dg.DagsterInstance | None = None,
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize all assets, or some; with an ephemeral instance if none is given."""
    job = build_definitions(profile, Store(root)).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in selection] if selection else None
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as events:
        return job.execute_in_process(asset_selection=keys, raise_on_error=False, instance=events, tags=tags)


def computed(result: dg.ExecuteInProcessResult) -> set[str]:
    """Assets that the run computed and did not skip."""
    names = set()
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        if not materialization.metadata["skipped"].value:
            names.add(materialization.asset_key.to_user_string())
    return names


def unsynced(profile: Profile, root: Path, instance: dg.DagsterInstance) -> set[str]:
    """Assets that Dagster itself calls unsynced or does not know: what its UI shows."""
    return stale_in_dagster(build_definitions(profile, Store(root)).assets or (), instance)


def error_message(result: dg.ExecuteInProcessResult) -> str:
    """The error of the first failed step."""
    data = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    return (data.user_failure_data and data.user_failure_data.description) or data.error.message
