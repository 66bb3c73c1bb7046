"""Why a step failed: the sentence of a `PipelineError`, or the end of the stack trace of a bug."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

FRAMES = 3
"""Innermost frames of a stack trace that are shown. Dagster's run page has all."""
PIPELINE_ERROR = re.compile(r"^vdm_pipeline\.errors\.\w+: ")
STOPPED_BY_CHECK = ("BlockingChecksFailed", "DagsterAssetCheckFailedError")
INTERRUPTED = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


@dataclass(frozen=True)
class Failure:
    """A step that failed; ``frames`` is empty unless the error was unexpected."""

    step: str
    sentence: str
    frames: tuple[str, ...] = ()


def failure_of(event: dg.DagsterEvent, crash: str | None) -> Failure | None:
    """The failure in a failure event; ``crash`` is what Dagster said of the step's process, if that died.

    None if the step was interrupted, or if a check stopped the run: its result has the sentence.
    """
    step = event.step_key or "run"
    if not event.is_step_failure:
        return _unexpected(step, event.engine_event_data.error)
    data = event.step_failure_data
    names = {error.cls_name for error in _chain(data.error)}
    if names.intersection(STOPPED_BY_CHECK + INTERRUPTED):
        return None
    if data.user_failure_data and data.user_failure_data.description:
        return Failure(step, data.user_failure_data.description)
    return Failure(step, _killed(crash)) if crash else _unexpected(step, data.error)


def exception_failure(step: str, error: BaseException) -> Failure:
    """An error outside the steps."""
    places = traceback.format_tb(error.__traceback__)[-FRAMES:]
    return Failure(step, f"{type(error).__name__}: {error}", _places(places))


def _killed(crash: str) -> str:
    """Dagster's first sentence, and what to do."""
    sentence = crash.split(". ")[0].removeprefix("Multiprocess executor: ")
    return f"{sentence}. If memory ran out, lower the batch sizes in [execution] of the profile."


def _unexpected(step: str, error: Any) -> Failure:
    """The innermost cause, with its place in the code unless it is a `PipelineError`."""
    root = _chain(error)[-1]
    message = root.message.strip()
    if PIPELINE_ERROR.match(message):
        return Failure(step, PIPELINE_ERROR.sub("", message))
    return Failure(step, message, _places(root.stack[-FRAMES:]))


def _places(frames: Sequence[str]) -> tuple[str, ...]:
    """File and code of each frame, without the line of carets."""
    return tuple("\n".join(frame.splitlines()[:2]) for frame in frames)


def _chain(error: Any) -> list[Any]:
    """The error, then its cause, and the cause's cause."""
    chain = [error]
    while chain[-1].cause:
        chain.append(chain[-1].cause)
    return chain
