"""The only imports of Dagster's private modules: where no public API exists."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution import compute_logs, context_creation_job
from dagster._core.storage import local_compute_log_manager
from dagster._utils import ensure_file


def engine_event_data(metadata: Mapping[str, dg.MetadataValue]) -> EngineEventData:
    """Metadata of an event that `dagster.DagsterInstance.report_engine_event` takes."""
    return EngineEventData(metadata)


def set_console_logger(logger: dg.LoggerDefinition, level: str) -> None:
    """The logger that prints the events of this process's runs, and its lowest level; all are stored.

    A run uses the loggers of `dagster.Definitions` only if its own config names one. Else it uses this.
    """
    config = {"name": "dagster", "log_level": level}
    context_creation_job.default_system_loggers = lambda instance: [(logger, config)]


def keep_step_output_in_files() -> None:
    """Do not repeat in this terminal what steps print; the run's page in the UI shows it.

    Dagster repeats it with four processes per run. They write into live bars, and print traces on Ctrl-C.
    """
    local_compute_log_manager.mirror_stream_to_file = _redirect_to_file


@contextmanager
def _redirect_to_file(stream: Any, filepath: Any) -> Iterator[None]:
    ensure_file(filepath)
    with compute_logs.redirect_to_file(stream, filepath):
        yield


def keeps_runs_on_this_machine(instance: dg.DagsterInstance) -> bool:
    """Whether the instance's database is a SQLite file, which no other machine shares."""
    return "Sqlite" in type(instance.event_log_storage).__name__
