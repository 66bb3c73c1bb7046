"""What Dagster's daemon starts: scheduled re-labelling, and stale assets. Enable each in the UI."""

import warnings
from collections.abc import Callable
from datetime import datetime

import dagster as dg

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import has_usable_inputs, stale_assets, up_to_date_manifest
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.settings import Profile

RELABELLED = ("raw_npz", "image_embeddings", "labeled_dataset", "label_metrics")
STATUS = dg.DagsterRunStatus
ACTIVE = [STATUS.QUEUED, STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING]


def relabel_schedule(profile: Profile) -> dg.ScheduleDefinition:
    """The schedule ``relabel``: labels and their metrics, at ``automation.relabel_cron``."""
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey("labeled_dataset"))
    job = dg.define_asset_job(
        "relabel", dg.AssetSelection.assets(*RELABELLED) | checks, description="Labels and their metrics."
    )
    cron = profile.automation.relabel_cron
    try:
        return dg.ScheduleDefinition(name="relabel", job=job, cron_schedule=cron, execution_timezone="UTC")
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"automation.relabel_cron is '{cron}', which is not a cron schedule of five fields; "
            "write one such as '0 3 * * 1'."
        ) from None


class StaleAssets(dg.AutomationCondition):
    """True for `stale_assets`: the daemon and a run decide by the same manifests.

    Requests nothing once the profile was edited: a run would load the edited one and find other assets stale.
    The tick fails with a clear error while a manifest is damaged, or the disk is full or read-only.
    """

    def __init__(self, project: Project, profile_changed: Callable[[], bool]) -> None:
        self.project, self.profile_changed = project, profile_changed
        self.tick, self.assets = datetime.min, frozenset[str]()

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """The whole asset or nothing; one answer a tick for all assets, so that none lacks its inputs."""
        if context.evaluation_time != self.tick:
            self.tick, self.assets = context.evaluation_time, frozenset(self._stale_assets(context))
        return _all_if(context.key.to_user_string() in self.assets, context)

    def _stale_assets(self, context: dg.AutomationContext) -> set[str]:
        if self.profile_changed():
            context.log.warning("The profile was edited; press 'Reload definitions' to resume the sensor.")
            return set()
        assets = stale_assets(self.project)
        if assets:
            self.project.store.assert_writable()
        return assets


class NoActiveRuns(dg.AutomationCondition):
    """True while no run is active or queued: such a run may be about to compute the same assets."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.tick, self.idle = datetime.min, False

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """The whole asset or nothing; one answer a tick."""
        if context.evaluation_time != self.tick:
            active = self.project.store.is_locked() or _has_active_run(context.asset_graph_view.instance)
            self.tick, self.idle = context.evaluation_time, not active
        return _all_if(self.idle, context)


def _has_active_run(instance: dg.DagsterInstance) -> bool:
    """Whether a run of our assets is queued or running, even if it does not hold the folder yet."""
    assets = {dg.AssetKey(name) for name in STAGES}
    runs = instance.get_runs(dg.RunsFilter(statuses=ACTIVE))
    return any(assets & (run.asset_selection or set()) for run in runs)


class NotYetReported(dg.AutomationCondition):
    """True for an up-to-date asset that this Dagster instance does not know, if a run can read its inputs.

    The instance is new, a run was killed before it reported, or an input has new parts that the asset does
    not read.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """The whole asset or nothing."""
        manifest = up_to_date_manifest(self.project, context.key.to_user_string())
        event = context.asset_graph_view.instance.get_latest_materialization_event(context.key)
        materialization = event.asset_materialization if event else None
        tags = (materialization.tags if materialization else None) or {}
        if manifest is None or _version_tags(self.project, manifest).items() <= tags.items():
            return _all_if(False, context)
        return _all_if(has_usable_inputs(self.project, manifest.asset), context)


def _version_tags(project: Project, manifest: Manifest) -> dict[str, str]:
    """The tags that Dagster writes on a materialization of this manifest now.

    Dagster compares whole assets: the inputs' tags change with parts that the asset does not read, too.
    """
    inputs = {
        f"dagster/input_data_version/{name}": source.data_version
        for name in STAGES[manifest.asset].inputs
        if (source := project.store.manifest(name))
    }
    return {
        "dagster/code_version": manifest.code_version,
        "dagster/data_version": manifest.data_version,
        **inputs,
    }


def _all_if(holds: bool, context: dg.AutomationContext) -> dg.AutomationResult:
    return dg.AutomationResult(context, context.candidate_subset if holds else context.get_empty_subset())


def on_change(project: Project, profile_changed: Callable[[], bool]) -> dg.AutomationCondition:
    """Request stale assets, and up-to-date ones that Dagster does not know, while no run is active."""
    unreported = NotYetReported(project) & ~dg.AutomationCondition.execution_failed()
    condition = NoActiveRuns(project) & (StaleAssets(project, profile_changed) | unreported)
    return condition.with_label("stale, and not failed in this state before")


def rematerialize_on_change() -> dg.AutomationConditionSensorDefinition:
    """The sensor ``rematerialize_on_change``: recomputes all stale assets in one run."""
    # Conditions of our own run in the code server; Dagster calls that beta.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            "rematerialize_on_change",
            target=dg.AssetSelection.all(),
            use_user_code_server=True,
            minimum_interval_seconds=15,
        )
