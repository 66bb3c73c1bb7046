"""An executor that shows the run in the terminal of the process that executes it."""

import atexit
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
import dagster as dg

from vdm_pipeline.defs.console.ending import (
    show_display_failure,
    show_failures,
    show_interruption,
    show_success,
)
from vdm_pipeline.defs.console.failures import exception_failure
from vdm_pipeline.defs.console.live_screen import LiveScreen
from vdm_pipeline.defs.console.log_level import SHOWN_RUNS, shows_dagster_events
from vdm_pipeline.defs.console.plain_screen import PlainScreen
from vdm_pipeline.defs.console.screen import Screen, can_move_cursor, open_console
from vdm_pipeline.defs.console.story import Story, asset_of

POLL_S = 0.25
"""Seconds between two reads of the event log."""


def shown(executor: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """The same executor, which shows its runs.

    The source is Dagster's event log, so steps may run in this process, in others, or in a cluster.
    """

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        create_executor = executor.executor_creation_fn
        assert create_executor
        return ShownExecutor(create_executor(context))

    return dg.ExecutorDefinition(
        name=executor.name,
        description=executor.description,
        config_schema=executor.config_schema,  # type: ignore[arg-type]  # Dagster takes its own schemas
        requirements=executor.get_requirements,
        executor_creation_fn=create,
    )


class ShownExecutor(dg.Executor):
    """Executes as ``executor`` does, while a thread shows the event log."""

    def __init__(self, executor: dg.Executor) -> None:
        self.executor = executor

    @property
    def retries(self) -> Any:
        """When steps are retried."""
        return self.executor.retries

    @property
    def step_dependency_config(self) -> Any:
        """Which inputs a step waits for."""
        return self.executor.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Yield the events of the run."""
        instance, run_id = plan_context.instance, plan_context.run_id
        with show_run(instance, run_id, execution_plan.step_keys_to_execute):
            yield from self.executor.execute(plan_context, execution_plan)


@contextmanager
def show_run(instance: dg.DagsterInstance, run_id: str, steps: Sequence[str]) -> Iterator[None]:
    """Show the run's event log while the block runs, then its end."""
    screen, start = _open_screen(steps), time.monotonic()
    story, interrupted = Story(screen, steps), False
    SHOWN_RUNS.add(run_id)
    try:
        with _followed(instance, run_id, story):
            yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        interrupted = True
        raise
    except Exception as error:
        if not story.run_failed:
            story.failures.append(exception_failure("run", error))
        raise
    finally:
        screen.close()
        if interrupted:
            _after_dagster(lambda: show_interruption(screen))
        elif story.run_failed:
            _after_dagster(lambda: show_failures(screen, story))
        elif story.display_failure:
            _after_dagster(partial(show_display_failure, screen, story.display_failure))
        else:
            show_success(screen, story, time.monotonic() - start)


def _open_screen(steps: Sequence[str]) -> Screen:
    """Live, unless the terminal is shared: with Dagster's events, or with the services of ``dagster dev``."""
    console, assets = open_console(), [asset_of(step) for step in steps]
    shared = shows_dagster_events() or multiprocessing.parent_process() is not None
    return PlainScreen(console) if shared or not can_move_cursor(console) else LiveScreen(console, assets)


def _after_dagster(show: Callable[[], None]) -> None:
    """Show it last: after a failed run, Dagster's commands print one line and exit."""
    if click.get_current_context(silent=True):
        atexit.register(show)
    else:
        show()


@contextmanager
def _followed(instance: dg.DagsterInstance, run_id: str, story: Story) -> Iterator[None]:
    """Tell the story every entry of the event log, also those that were written just before the end.

    If that fails, the run continues: its result does not depend on what is shown.
    """
    ended, cursor = threading.Event(), None

    def tell_new_entries() -> None:
        nonlocal cursor
        more = True
        while more:
            page = instance.get_records_for_run(run_id, cursor)
            for record in page.records:
                story.tell(record.event_log_entry)
            cursor, more = page.cursor, page.has_more

    def follow() -> None:
        try:
            while not ended.wait(POLL_S):
                tell_new_entries()
            tell_new_entries()
        except Exception as error:
            story.display_failure = exception_failure("display", error)

    thread = threading.Thread(target=follow, name="console", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
