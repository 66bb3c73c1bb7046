"""The graph in a process of the test: run it, and ask what it did and what is thought of it."""

from contextlib import nullcontext
from pathlib import Path

import dagster as dg
from dagster._core.definitions.data_version import StaleStatus
from dagster._utils.test.data_versions import get_stale_status_resolver

from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import Profile


def lasting(home: Path) -> dg.DagsterInstance:
    """An instance that keeps its events in a folder."""
    home.mkdir(exist_ok=True)
    return dg.DagsterInstance.local_temp(str(home))


def materialize(
    profile: Profile,
    root: Path,
    selection: list[str] | None = None,
    instance: dg.DagsterInstance | None = None,
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """All of the graph, or some assets; with an instance that forgets, if none is given."""
    job = build_definitions(profile, Store(root)).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in selection] if selection else None
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as events:
        return job.execute_in_process(asset_selection=keys, raise_on_error=False, instance=events, tags=tags)


def computed(result: dg.ExecuteInProcessResult) -> set[str]:
    """Assets of a run that were made, not re-used."""
    made = set()
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        if not materialization.metadata["reused"].value:
            made.add(materialization.asset_key.to_user_string())
    return made


def unsynced(profile: Profile, root: Path, instance: dg.DagsterInstance) -> set[str]:
    """What Dagster itself calls unsynced, or does not know of: what its UI shows."""
    assets = list(build_definitions(profile, Store(root)).assets or ())
    resolver = get_stale_status_resolver(instance, assets)
    return {
        asset.key.to_user_string() for asset in assets if resolver.get_status(asset.key) != StaleStatus.FRESH
    }


def sentence(result: dg.ExecuteInProcessResult) -> str:
    """What the first failed step says."""
    data = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    return (data.user_failure_data and data.user_failure_data.description) or data.error.message
