"""The only imports of Dagster's private modules: where no public API exists."""

from collections.abc import Mapping

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution import context_creation_job


def engine_event_data(metadata: Mapping[str, dg.MetadataValue]) -> EngineEventData:
    """Metadata of an event that `dagster.DagsterInstance.report_engine_event` takes."""
    return EngineEventData(metadata)


def set_console_level(level: str) -> None:
    """The lowest level that this process prints of its runs' events; all are stored.

    A run uses the loggers of `dagster.Definitions` only if its own config names one. Else it uses these.
    """
    config = {"name": "dagster", "log_level": level}
    context_creation_job.default_system_loggers = lambda instance: [(dg.colored_console_logger, config)]


def keeps_runs_on_this_machine(instance: dg.DagsterInstance) -> bool:
    """Whether the instance's database is a SQLite file, which no other machine shares."""
    return "Sqlite" in type(instance.event_log_storage).__name__
