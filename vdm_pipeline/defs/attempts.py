"""Records of work that started, so that the daemon does not start again what cannot succeed."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from vdm_pipeline.incremental.project import Project

CANCELLED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


@contextmanager
def attempt(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, project: Project, work: str, state: str
) -> Iterator[None]:
    """Record that work starts in this state, and that it failed or was cancelled by the UI's "Terminate".

    The record is cleared when the work succeeds, or when its terminal or machine was closed, as that work is
    resumed. A killed process clears nothing, so a kill counts as one attempt.
    """
    project.store.start_attempt(work, state)
    try:
        yield
    except Exception:
        project.store.fail_attempt(work, state)
        raise
    except BaseException:
        run = context.instance.get_run_by_id(context.run.run_id)
        if run and run.status in CANCELLED:
            project.store.fail_attempt(work, state)
        else:
            project.store.clear_attempt(work)
        raise
    project.store.clear_attempt(work)
