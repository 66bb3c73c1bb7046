"""The one object that Dagster loads; it only assembles, and imports no torch."""

import os
from collections.abc import Callable, Iterator

import click
import dagster as dg

from vdm_pipeline.defs.assets.data import raw_npz
from vdm_pipeline.defs.assets.evaluation import image_metrics, pipeline_summary
from vdm_pipeline.defs.assets.generation import baseline_images, extra_images, generated_images
from vdm_pipeline.defs.assets.labelling import image_embeddings, label_metrics, labeled_dataset
from vdm_pipeline.defs.assets.quality import data_faults, label_noise
from vdm_pipeline.defs.assets.report import report
from vdm_pipeline.defs.assets.subset import lora_subset
from vdm_pipeline.defs.assets.training import lora_weights
from vdm_pipeline.defs.automation import on_change, relabel_schedule, rematerialize_on_change
from vdm_pipeline.defs.checks import CHECKS
from vdm_pipeline.defs.executors import executor
from vdm_pipeline.defs.run_monitoring import fail_orphaned_runs, orphaned_runs_sensor, report_worker_host
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.graph import code_version
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import Profile, load_profile

ASSETS = [
    raw_npz,
    image_embeddings,
    labeled_dataset,
    label_metrics,
    data_faults,
    label_noise,
    lora_subset,
    lora_weights,
    generated_images,
    baseline_images,
    extra_images,
    image_metrics,
    pipeline_summary,
    report,
]


def definitions(profile: Profile, store: Store, edited: Callable[[], bool] = lambda: False) -> dg.Definitions:
    """All assets and checks for a profile, in a project folder; ``edited`` says whether the profile is another by now."""
    run = Project(profile, store)
    run.forced()  # a misspelt name is told before anything runs
    changed = on_change(run, edited)

    def specify(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        return spec.replace_attributes(code_version=code_version(name, profile), automation_condition=changed)

    def start(context: dg.InitResourceContext) -> Iterator[Project]:
        os.environ.setdefault("MPLCONFIGDIR", str(store.own("results/.cache/matplotlib")))  # else it is kept in the user's home
        log = context.log.info if context.log else print
        run.reused.clear()
        if context.instance:
            fail_orphaned_runs(context.instance, store)
        if context.instance and context.run:
            report_worker_host(context.instance, context.run)
        with store.working(context.run.run_id if context.run else "outside Dagster", log):
            yield run
            if run.reused:  # in one line, as each line is a write to Dagster's database
                log(f"Re-used, as nothing upstream changed: {', '.join(run.reused)}")

    return dg.Definitions(
        assets=dg.map_asset_specs(specify, [asset(profile) for asset in ASSETS]),
        asset_checks=CHECKS,
        schedules=[relabel_schedule(profile)],
        sensors=[orphaned_runs_sensor(store), rematerialize_on_change()],
        resources={"run": dg.ResourceDefinition(start)},
        executor=executor(),
    )


def _profile_was_edited() -> bool:
    try:
        return load_profile() != PROFILE
    except PipelineError:  # not whole yet, or gone
        return True


try:
    PROFILE = load_profile()
    defs = definitions(PROFILE, Store.from_environment(), _profile_was_edited)
except PipelineError as error:  # click prints the sentence alone; a code server shows it in the UI
    raise click.ClickException(str(error)) from None
