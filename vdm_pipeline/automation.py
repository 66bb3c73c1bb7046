"""Re-labelling by the clock; a stage whose inputs and settings are unchanged re-uses what stands, so a quiet night costs nothing."""

import dagster as dg

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings import Profile

RELABELLED = ("raw_npz", "image_embeddings", "labeled_dataset", "label_metrics")


def relabelling(profile: Profile) -> dg.ScheduleDefinition:
    """The schedule ``relabel``; it is off until it is switched on in the UI."""
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey("labeled_dataset"))
    job = dg.define_asset_job("relabel", dg.AssetSelection.assets(*RELABELLED) | checks, description="Labels, and how good they are.")
    try:
        return dg.ScheduleDefinition(name="relabel", job=job, cron_schedule=profile.automation.relabel_cron, execution_timezone="UTC")
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(
            f"automation.relabel_cron is '{profile.automation.relabel_cron}', which is no cron schedule of five fields; "
            "write one such as '0 3 * * 1'."
        ) from None
