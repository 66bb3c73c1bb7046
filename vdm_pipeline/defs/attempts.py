"""Notes of work that is begun, so that the daemon knows what not to begin again."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from vdm_pipeline.incremental.project import Project

STOPPED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


@contextmanager
def attempt(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, run: Project, work: str, state: str) -> Iterator[None]:
    """Note that work begins in this state of things, and that it failed, or was stopped by the UI's "Terminate".

    Nothing stays noted of what was done, or of what ended because its terminal or its machine was closed: that is gone on with.
    A killed process notes nothing, so what it had begun counts as one try.
    """
    run.store.begin_attempt(work, state)
    try:
        yield
    except Exception:
        run.store.fail_attempt(work, state)
        raise
    except BaseException:
        record = context.instance.get_run_by_id(context.run.run_id)
        if record and record.status in STOPPED:
            run.store.fail_attempt(work, state)
        else:
            run.store.clear_attempt(work)
        raise
    run.store.clear_attempt(work)
