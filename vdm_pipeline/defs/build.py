"""All definitions for one profile in one project folder."""

from collections.abc import Callable

import dagster as dg

from vdm_pipeline.defs.assets import ASSETS
from vdm_pipeline.defs.automation import on_change, relabel_schedule, rematerialize_on_change
from vdm_pipeline.defs.checks import ASSET_CHECKS
from vdm_pipeline.defs.console.executor import shown
from vdm_pipeline.defs.console.log_level import set_up_console
from vdm_pipeline.defs.executors import executor_from_environment
from vdm_pipeline.defs.project_resource import project_resource
from vdm_pipeline.defs.run_monitoring import orphaned_runs_sensor
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import Profile


def build_definitions(
    profile: Profile, store: Store, profile_changed: Callable[[], bool] = lambda: False
) -> dg.Definitions:
    """Assets, checks, schedule, sensors, resource and executor.

    The daemon calls ``profile_changed`` to see whether the profile was edited since. Raises `PipelineError`
    for an unknown name in ``$VDM_FORCE``, ``$VDM_EXECUTOR`` or ``$VDM_LOG``.
    """
    project = Project(profile, store)
    project.forced()  # reports a misspelt asset in $VDM_FORCE before anything runs
    set_up_console()
    condition = on_change(project, profile_changed)

    return dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: spec.replace_attributes(automation_condition=condition),
            [asset(profile) for asset in ASSETS],
        ),
        asset_checks=ASSET_CHECKS,
        schedules=[relabel_schedule(profile)],
        sensors=[orphaned_runs_sensor(store), rematerialize_on_change()],
        resources={"project": project_resource(project)},
        executor=shown(executor_from_environment()),
    )
