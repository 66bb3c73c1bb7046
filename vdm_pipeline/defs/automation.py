"""The daemon's doors: re-labelling by the clock, and whatever changed; both are off until they are switched on in the UI."""

import warnings
from collections.abc import Callable
from datetime import datetime

import dagster as dg

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import stale_assets, up_to_date_manifest
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.settings import Profile

RELABELLED = ("raw_npz", "image_embeddings", "labeled_dataset", "label_metrics")
RULE = dg.AutomationCondition
STATUS = dg.DagsterRunStatus
AT_WORK = [STATUS.QUEUED, STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING]


def relabel_schedule(profile: Profile) -> dg.ScheduleDefinition:
    """The schedule ``relabel``: labels, and how good they are, at ``automation.relabel_cron``."""
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey("labeled_dataset"))
    job = dg.define_asset_job("relabel", dg.AssetSelection.assets(*RELABELLED) | checks, description="Labels, and how good they are.")
    cron = profile.automation.relabel_cron
    try:
        return dg.ScheduleDefinition(name="relabel", job=job, cron_schedule=cron, execution_timezone="UTC")
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"automation.relabel_cron is '{cron}', which is no cron schedule of five fields; write one such as '0 3 * * 1'."
        ) from None


class StaleAssets(dg.AutomationCondition):
    """What `freshness.wanted` names: Dagster's daemon and a run go by the same records.

    Nothing, once the profile was edited: a run would read it anew, and find other things to do than are asked for here. The
    tick fails with a sentence while a record is damaged, or the disk is full or closed.
    """

    def __init__(self, run: Project, edited: Callable[[], bool]) -> None:
        self.run, self.edited = run, edited
        self.tick, self.names = datetime.min, frozenset[str]()

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """All of the asset, or nothing; one answer a tick for all assets, so that none is asked for without its inputs."""
        if context.evaluation_time != self.tick:
            self.tick, self.names = context.evaluation_time, frozenset(self._asked(context))
        return _all_if(context.key.to_user_string() in self.names, context)

    def _asked(self, context: dg.AutomationContext) -> set[str]:
        if self.edited():
            context.log.warning("The profile was edited: press 'Reload definitions', and the sensor goes on.")
            return set()
        names = stale_assets(self.run)
        if names:
            self.run.store.assert_writable()
        return names


class NoActiveRuns(dg.AutomationCondition):
    """While no run works, or waits to: it may be about to do what would be asked for, such as the checks of what it has made."""

    def __init__(self, run: Project) -> None:
        self.run = run
        self.tick, self.rests = datetime.min, False

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """All of the asset, or nothing; one answer a tick."""
        if context.evaluation_time != self.tick:
            busy = self.run.store.is_locked() or _is_run_for_us(context.asset_graph_view.instance)
            self.tick, self.rests = context.evaluation_time, not busy
        return _all_if(self.rests, context)


def _is_run_for_us(instance: dg.DagsterInstance) -> bool:
    """Whether a run of an asset of ours waits, starts or works, also one that does not hold the project folder yet."""
    ours = {dg.AssetKey(name) for name in STAGES}
    return any(ours & (run.asset_selection or set()) for run in instance.get_runs(dg.RunsFilter(statuses=AT_WORK)))


class NotYetReported(dg.AutomationCondition):
    """What stands, and Dagster does not know of as it stands: a new instance, or a run that was killed before it told."""

    def __init__(self, run: Project) -> None:
        self.run = run

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """All of the asset, or nothing."""
        manifest = up_to_date_manifest(self.run, context.key.to_user_string())
        event = context.asset_graph_view.instance.get_latest_materialization_event(context.key)
        ray_device_metadata = (event.asset_materialization.tags if event and event.asset_materialization else None) or {}
        return _all_if(
            manifest is not None and any(ray_device_metadata.get(tag) != value for tag, value in _tags(manifest).items()), context
        )


def _tags(manifest: Manifest) -> dict[str, str]:
    """What Dagster writes beside a materialization of this record."""
    inputs = {f"dagster/input_data_version/{name}": version for name, version in manifest.inputs.items()}
    return {"dagster/code_version": manifest.code_version, "dagster/data_version": manifest.data_version, **inputs}


def _all_if(holds: bool, context: dg.AutomationContext) -> dg.AutomationResult:
    return dg.AutomationResult(context, context.candidate_subset if holds else context.get_empty_subset())


def on_change(run: Project, edited: Callable[[], bool]) -> dg.AutomationCondition:
    """Ask for what is wanted, and for what Dagster is to be told of; ``edited`` says whether the profile is another by now."""
    untold = NotYetReported(run) & ~RULE.execution_failed()
    return (NoActiveRuns(run) & (StaleAssets(run, edited) | untold)).with_label("changed, and not tried like this before")


def rematerialize_on_change() -> dg.AutomationConditionSensorDefinition:
    """The sensor ``rematerialize_on_change``: looks at the archive, the settings and all that stands, and makes what changed, in one run."""
    with warnings.catch_warnings():  # conditions of one's own are evaluated here, not in the daemon, and that is called beta
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            "remake_on_change", target=dg.AssetSelection.all(), use_user_code_server=True, minimum_interval_seconds=15
        )
