"""``$VDM_LOG``: whether the terminal also shows Dagster's own events."""

import os

from vdm_pipeline.errors import PipelineError

LEVELS = {"info": "CRITICAL", "debug": "DEBUG"}
"""The lowest level that Dagster's console logger prints, by value of ``$VDM_LOG``. Dagster logs nothing as
critical, so with ``info`` it prints nothing; its event log is always complete."""


def shows_dagster_events() -> bool:
    """Whether ``$VDM_LOG`` is ``debug``."""
    return _level() == "debug"


def dagster_console_level() -> str:
    """The level of Dagster's console logger. Raises `PipelineError` for an unknown ``$VDM_LOG``."""
    return LEVELS[_level()]


def _level() -> str:
    level = os.environ.get("VDM_LOG") or "info"
    if level not in LEVELS:
        raise PipelineError(f"VDM_LOG is {level!r}, which is not a level; use one of {', '.join(LEVELS)}.")
    return level
