"""The resource ``project``: locks the project folder for a run, and reports what the run skipped."""

import os
from collections.abc import Iterator

import dagster as dg

from vdm_pipeline.defs.run_monitoring import fail_orphaned_runs, report_worker_host
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.stages.runtime.environment import launchers_hidden


def project_resource(project: Project) -> dg.ResourceDefinition:
    """The project, held by one run at a time."""

    def lock_for_run(context: dg.InitResourceContext) -> Iterator[Project]:
        # Matplotlib would keep its cache in the user's home, or in /tmp where that is not writable.
        os.environ["MPLCONFIGDIR"] = str(project.store.owned_path("results/.cache/matplotlib"))
        log = context.log.info if context.log else print
        warn = context.log.warning if context.log else print
        project.skipped.clear()
        if context.instance:
            fail_orphaned_runs(context.instance, project.store)
        if context.instance and context.run:
            report_worker_host(context.instance, context.run)
        run_id = context.run.run_id if context.run else "outside Dagster"
        with launchers_hidden(), project.store.lock(run_id, warn):
            yield project
            if project.skipped:  # one line: each line is a write to Dagster's database
                log(f"Skipped (up to date): {', '.join(project.skipped)}")

    return dg.ResourceDefinition(lock_for_run)
