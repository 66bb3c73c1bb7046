"""``$VDM_LOG``: whether the terminal also shows Dagster's own events."""

import os

from vdm_pipeline.defs.dagster_internals import keep_step_output_in_files, set_console_level
from vdm_pipeline.errors import PipelineError

LEVELS = {"info": "CRITICAL", "debug": "DEBUG"}
"""The lowest level that Dagster's console logger prints, by value of ``$VDM_LOG``. Dagster logs nothing as
critical, so with ``info`` it prints nothing; its event log is always complete."""


def shows_dagster_events() -> bool:
    """Whether ``$VDM_LOG`` is ``debug``."""
    return _level() == "debug"


def set_up_console() -> None:
    """Silence Dagster's console, unless ``$VDM_LOG`` says otherwise: `ShownExecutor` shows the runs.

    Raises `PipelineError` for an unknown value.
    """
    set_console_level(LEVELS[_level()])
    if not shows_dagster_events():
        keep_step_output_in_files()


def _level() -> str:
    level = os.environ.get("VDM_LOG") or "info"
    if level not in LEVELS:
        raise PipelineError(f"VDM_LOG is {level!r}, which is not a level; use one of {', '.join(LEVELS)}.")
    return level
