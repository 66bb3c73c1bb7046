"""What Dagster's daemon starts: scheduled re-labelling, and stale assets. Enable each in the UI."""

from collections.abc import Callable

import dagster as dg

from vdm_pipeline.errors import ModelError, SettingsError
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import (
    has_usable_inputs,
    obstacles,
    stale_assets,
    up_to_date_manifest,
)
from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.settings import Profile, fingerprint
from vdm_pipeline.stages.models.pins import resolve_model

RELABELLED = ("raw_npz", "image_embeddings", "labeled_dataset", "label_metrics")
STATUS = dg.DagsterRunStatus
INTERVAL_S = 15
"""Seconds between two ticks of the sensor."""
REPORT_TAG = "vdm/report"
"""Tag of a run that reports up-to-date assets: a hash of what it reports."""
PROFILE_EDITED = "The profile was edited: press 'Reload definitions' on the Lineage page, or restart make ui."
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


def rematerialize_on_change(project: Project, profile_changed: Callable[[], bool]) -> dg.SensorDefinition:
    """The sensor ``rematerialize_on_change``; ``profile_changed`` tells whether the profile was edited.

    It logs nothing: Dagster keeps the log of each tick for ever.
    """

    @dg.sensor(
        name="rematerialize_on_change", target=dg.AssetSelection.all(), minimum_interval_seconds=INTERVAL_S
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Recomputes all stale assets in one run. A skipped tick shows why it requests nothing."""
        if profile_changed():
            return dg.SkipReason(PROFILE_EDITED)
        if project.store.is_locked() or _has_active_run(context.instance):
            return dg.SkipReason("A run is active.")
        return _request(project, context.instance)

    return sensor


def _request(project: Project, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """A run of what `stale_assets` lists, so that the daemon and a run decide by the same manifests.

    Raises `PipelineError` while a manifest is damaged, or the disk is full or read-only.
    """
    stale, (unreported, report) = stale_assets(project), _unreported(project, instance)
    if stale:
        project.store.assert_writable()
        if obstacle := _model_obstacle(project.profile):
            return dg.SkipReason(obstacle)
    requested = sorted(stale | unreported)
    if requested:
        tags = {REPORT_TAG: report} if unreported else {}
        return dg.RunRequest(asset_selection=[dg.AssetKey(name) for name in requested], tags=tags)
    return dg.SkipReason(" ".join(obstacles(project)) or "Everything is up to date.")


def _model_obstacle(profile: Profile) -> str | None:
    """Why a model folder of the profile cannot be used now. It may still be being copied."""
    for pin in profile.models().values():
        try:
            if pin.source == "folder":
                resolve_model(pin)
        except ModelError as error:
            return str(error)
    return None


def _unreported(project: Project, instance: dg.DagsterInstance) -> tuple[set[str], str]:
    """Up-to-date assets that this Dagster instance does not know, and a hash of what it has to learn.

    The instance is new, a run was killed before it reported, or an input has new parts that the asset does
    not read. Left out if no run can read the inputs now. Empty if a run that had to report the same failed.
    """
    unreported = {}
    for name in STAGES:
        manifest = up_to_date_manifest(project, name)
        event = instance.get_latest_materialization_event(dg.AssetKey(name))
        materialization = event.asset_materialization if event else None
        known = (materialization.tags if materialization else None) or {}
        if manifest is None or _version_tags(project, manifest).items() <= known.items():
            continue
        if has_usable_inputs(project, name):
            unreported[name] = [_version_tags(project, manifest), dict(known)]
    report = fingerprint(unreported)
    failed = dg.RunsFilter(tags={REPORT_TAG: report}, statuses=[STATUS.FAILURE, STATUS.CANCELED])
    if unreported and instance.get_runs(failed, limit=1):
        return set(), report
    return set(unreported), report


def _has_active_run(instance: dg.DagsterInstance) -> bool:
    """Whether a run of our assets is queued or running, even if it does not hold the folder yet."""
    assets = {dg.AssetKey(name) for name in STAGES}
    runs = instance.get_runs(dg.RunsFilter(statuses=ACTIVE))
    return any(assets & (run.asset_selection or set()) for run in runs)


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
