"""``$VDM_LOG``: whether the terminal also shows Dagster's own events."""

import logging
import os

import dagster as dg

from vdm_pipeline.defs.dagster_internals import keep_step_output_in_files, set_console_logger
from vdm_pipeline.errors import PipelineError

LEVELS = ("info", "debug")
SHOWN_RUNS: set[str] = set()
"""Runs of this process whose failures `ShownExecutor` shows."""


def set_up_console() -> None:
    """Silence Dagster's console unless ``$VDM_LOG`` is ``debug``: `ShownExecutor` shows the runs.

    Its event log is complete anyway. Raises `PipelineError` for an unknown value.
    """
    if shows_dagster_events():
        set_console_logger(dg.colored_console_logger, "DEBUG")
    else:
        set_console_logger(failures_before_a_run, "ERROR")
        keep_step_output_in_files()


def shows_dagster_events() -> bool:
    """Whether ``$VDM_LOG`` is ``debug``."""
    level = os.environ.get("VDM_LOG") or "info"
    if level not in LEVELS:
        raise PipelineError(f"VDM_LOG is {level!r}, which is not a level; use one of {', '.join(LEVELS)}.")
    return level == "debug"


@dg.logger
def failures_before_a_run(context: dg.InitLoggerContext) -> logging.Logger:
    """Dagster's console logger, which prints only that a run failed before its executor started."""
    logger: logging.Logger = dg.colored_console_logger.logger_fn(context)
    logger.addFilter(_is_failure_before_a_run)
    return logger


def _is_failure_before_a_run(record: logging.LogRecord) -> bool:
    event = getattr(record, "dagster_event", None)
    failed = event is not None and event.event_type == dg.DagsterEventType.RUN_FAILURE
    return failed and record.__dict__["dagster_meta"]["run_id"] not in SHOWN_RUNS
