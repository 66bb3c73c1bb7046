"""Re-labelling by the clock, and when something changed; both are off until they are switched on in the UI.

A stage whose inputs and settings are unchanged re-uses what stands, so a quiet night costs nothing.
"""

import dagster as dg
from dagster_shared.check import CheckError

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings import Profile

RELABELLED = ("raw_npz", "image_embeddings", "labeled_dataset", "label_metrics")
RULE = dg.AutomationCondition
NEW: dg.AutomationCondition = RULE.missing()
CHANGED: dg.AutomationCondition = RULE.code_version_changed() | RULE.any_deps_match(RULE.data_version_changed())
READY: dg.AutomationCondition = ~RULE.any_deps_missing() & ~RULE.any_deps_in_progress()
IDLE: dg.AutomationCondition = ~RULE.in_progress() & ~RULE.execution_failed()
ON_CHANGE = ((NEW | CHANGED.since_last_handled()) & READY & IDLE).with_label("on_change")
"""Settings and model pins are in the code version, and content in the data version: an upstream made again with the same
content asks for nothing. A failed stage is not asked for again and again."""


def relabelling(profile: Profile) -> dg.ScheduleDefinition:
    """The schedule ``relabel``: labels, and how good they are, at ``automation.relabel_cron``."""
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey("labeled_dataset"))
    job = dg.define_asset_job("relabel", dg.AssetSelection.assets(*RELABELLED) | checks, description="Labels, and how good they are.")
    cron = profile.automation.relabel_cron
    try:
        return dg.ScheduleDefinition(name="relabel", job=job, cron_schedule=cron, execution_timezone="UTC")
    except dg.DagsterInvalidDefinitionError:
        raise _bad_cron("relabel_cron", cron, "0 3 * * 1") from None


def condition(asset: str, profile: Profile) -> dg.AutomationCondition | None:
    """When the daemon makes the asset by itself: labels when something changed, the look at the archive by the clock."""
    if asset == "raw_npz":
        cron = profile.automation.look_cron
        try:
            return RULE.on_cron(cron)
        except CheckError:
            raise _bad_cron("look_cron", cron, "*/10 * * * *") from None
    return ON_CHANGE if asset in RELABELLED else None


def on_change() -> dg.AutomationConditionSensorDefinition:
    """The sensor ``relabel_on_change``, which asks `condition` of the labels' assets and of no others."""
    return dg.AutomationConditionSensorDefinition("relabel_on_change", target=dg.AssetSelection.assets(*RELABELLED))


def _bad_cron(field: str, value: str, example: str) -> SettingsError:
    return SettingsError(f"automation.{field} is '{value}', which is no cron schedule of five fields; write one such as '{example}'.")
