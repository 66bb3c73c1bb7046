"""The daemon's doors: re-labelling by the clock, and whatever changed; both are off until they are switched on in the UI."""

import warnings
from collections.abc import Callable

import dagster as dg

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.freshness import stands, wanted
from vdm_pipeline.resources import Run
from vdm_pipeline.settings import Profile

RELABELLED = ("raw_npz", "image_embeddings", "labeled_dataset", "label_metrics")
RULE = dg.AutomationCondition


def relabelling(profile: Profile) -> dg.ScheduleDefinition:
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


class Wanted(dg.AutomationCondition):
    """What `freshness.wanted` names: Dagster's daemon and a run go by the same records.

    Nothing, once the profile was edited: a run would read it anew, and find other things to do than are asked for here.
    """

    def __init__(self, run: Run, edited: Callable[[], bool]) -> None:
        self.run, self.edited = run, edited

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """All of the asset, or nothing."""
        if self.edited():
            context.log.warning("The profile was edited: press 'Reload definitions', and the sensor goes on.")
            return _all_if(False, context)
        return _all_if(context.key.to_user_string() in wanted(self.run), context)


class Stands(dg.AutomationCondition):
    """What `freshness.stands` says."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """All of the asset, or nothing."""
        return _all_if(stands(self.run, context.key.to_user_string()) is not None, context)


def _all_if(holds: bool, context: dg.AutomationContext) -> dg.AutomationResult:
    return dg.AutomationResult(context, context.candidate_subset if holds else context.get_empty_subset())


def when_changed(run: Run, edited: Callable[[], bool]) -> dg.AutomationCondition:
    """Ask for what is wanted, and for what stands and Dagster does not know of, such as with a new instance.

    ``edited`` says whether the profile is another by now than the run's.
    """
    unknown = Stands(run) & RULE.missing() & ~RULE.execution_failed()
    return ((Wanted(run, edited) | unknown) & ~RULE.in_progress()).with_label("changed, and not tried like this before")


def remake_on_change() -> dg.AutomationConditionSensorDefinition:
    """The sensor ``remake_on_change``: looks at the archive, the settings and all that stands, and makes what changed, in one run."""
    with warnings.catch_warnings():  # conditions of one's own are evaluated here, not in the daemon, and that is called beta
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            "remake_on_change", target=dg.AssetSelection.all(), use_user_code_server=True, minimum_interval_seconds=15
        )
