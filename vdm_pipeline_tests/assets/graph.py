"""The graph in a process of the test: run it, and ask what it did."""

from pathlib import Path

import dagster as dg

from vdm_pipeline.definitions import definitions
from vdm_pipeline.io.store import Store
from vdm_pipeline.settings import Profile


def materialize(profile: Profile, root: Path, selection: list[str] | None = None) -> dg.ExecuteInProcessResult:
    defs = definitions(profile, Store(root))
    job = defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in selection] if selection else None
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(asset_selection=keys, raise_on_error=False, instance=instance)


def computed(result: dg.ExecuteInProcessResult) -> set[str]:
    """Assets of a run that were made, not re-used."""
    made = set()
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        if not materialization.metadata["reused"].value:
            made.add(materialization.asset_key.to_user_string())
    return made


def sentence(result: dg.ExecuteInProcessResult) -> str:
    """What the first failed step says."""
    data = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    return (data.user_failure_data and data.user_failure_data.description) or data.error.message
