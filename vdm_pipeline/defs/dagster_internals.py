"""The only imports of Dagster's private modules: where no public API exists."""

from collections.abc import Mapping

import dagster as dg
from dagster._core.events import EngineEventData


def engine_event_data(metadata: Mapping[str, dg.MetadataValue]) -> EngineEventData:
    """Metadata of an event that `dagster.DagsterInstance.report_engine_event` takes."""
    return EngineEventData(metadata)


def keeps_runs_on_this_machine(instance: dg.DagsterInstance) -> bool:
    """Whether the instance's database is a SQLite file, which no other machine shares."""
    return "Sqlite" in type(instance.event_log_storage).__name__
