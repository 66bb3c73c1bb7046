"""The one object that Dagster loads; it only assembles, and imports no torch."""

import os
from collections.abc import Callable, Iterator

import click
import dagster as dg

from vdm_pipeline.assets.catalogue import code_version
from vdm_pipeline.assets.data import raw_npz
from vdm_pipeline.assets.evaluation import image_metrics, pipeline_summary
from vdm_pipeline.assets.images import baseline_images, extra_images, generated_images
from vdm_pipeline.assets.labels import image_embeddings, label_metrics, labeled_dataset
from vdm_pipeline.assets.quality import data_faults, label_noise
from vdm_pipeline.assets.report import report
from vdm_pipeline.assets.subset import lora_subset
from vdm_pipeline.assets.training import lora_weights
from vdm_pipeline.automation import relabelling, remake_on_change, when_changed
from vdm_pipeline.checks import CHECKS
from vdm_pipeline.dead_runs import dead_runs, fail_dead_runs, say_where
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.executors import executor
from vdm_pipeline.io.store import Store
from vdm_pipeline.resources import Run
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
    run = Run(profile, store)
    run.forced()  # a misspelt name is told before anything runs
    changed = when_changed(run, edited)

    def specify(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        return spec.replace_attributes(code_version=code_version(name, profile), automation_condition=changed)

    def start(context: dg.InitResourceContext) -> Iterator[Run]:
        os.environ.setdefault("MPLCONFIGDIR", str(store.own("results/.cache/matplotlib")))  # else it is kept in the user's home
        log = context.log.info if context.log else print
        run.reused.clear()
        if context.instance:
            fail_dead_runs(context.instance, store)
        if context.instance and context.run:
            say_where(context.instance, context.run)
        with store.working(context.run.run_id if context.run else "outside Dagster", log):
            yield run
            if run.reused:  # in one line, as each line is a write to Dagster's database
                log(f"Re-used, as nothing upstream changed: {', '.join(run.reused)}")

    return dg.Definitions(
        assets=dg.map_asset_specs(specify, [asset(profile) for asset in ASSETS]),
        asset_checks=CHECKS,
        schedules=[relabelling(profile)],
        sensors=[dead_runs(store), remake_on_change()],
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
