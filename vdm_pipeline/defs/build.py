"""All definitions for one profile in one project folder."""

from collections.abc import Callable

import dagster as dg

from vdm_pipeline.defs.assets import ASSETS
from vdm_pipeline.defs.automation import relabel_schedule, rematerialize_on_change
from vdm_pipeline.defs.checks import ASSET_CHECKS
from vdm_pipeline.defs.console.executor import shown
from vdm_pipeline.defs.console.log_level import set_up_console
from vdm_pipeline.defs.executors import executor_from_environment
from vdm_pipeline.defs.project_resource import project_resource
from vdm_pipeline.defs.run_monitoring import orphaned_runs_sensor
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.runtime.environment import check_docstrings_exist


def build_definitions(
    profile: Profile, store: Store, profile_changed: Callable[[], bool] = lambda: False
) -> dg.Definitions:
    """Assets, checks, schedule, sensors, resource and executor.

    The sensor calls ``profile_changed`` to see whether the profile was edited since. Raises `PipelineError`
    for an unknown name in ``$VDM_FORCE``, ``$VDM_EXECUTOR`` or ``$VDM_LOG``, and if Python runs without
    docstrings.
    """
    check_docstrings_exist()
    project = Project(profile, store)
    project.forced()  # reports a misspelt asset in $VDM_FORCE before anything runs
    set_up_console()
    return dg.Definitions(
        assets=[asset(profile) for asset in ASSETS],
        asset_checks=ASSET_CHECKS,
        schedules=[relabel_schedule(profile)],
        sensors=[orphaned_runs_sensor(store), rematerialize_on_change(project, profile_changed)],
        resources={"project": project_resource(project)},
        executor=shown(executor_from_environment()),
    )
