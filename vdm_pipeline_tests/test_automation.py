"""Re-labelling by the clock, and when something changed."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.automation import RELABELLED
from vdm_pipeline.definitions import definitions, defs
from vdm_pipeline.errors import SettingsError
from vdm_pipeline.io.store import Store
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.models import EMBEDDED, folder_digest
from vdm_pipeline_tests.conftest import shrink


def test_the_schedule_asks_for_labels_and_nothing_after_them():
    schedule = defs.resolve_schedule_def("relabel")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 3 * * 1"
    tick = schedule.evaluate_tick(dg.build_schedule_context())
    assert len(tick.run_requests) == 1
    job = defs.resolve_job_def("relabel")
    selected = {key.to_user_string() for key in job.asset_layer.executable_asset_keys & job.asset_layer.selected_asset_keys}
    assert selected == {"raw_npz", "image_embeddings", "labeled_dataset", "label_metrics"}


@pytest.mark.parametrize("field", ["relabel_cron", "look_cron"])
def test_a_bad_cron_is_a_sentence(tiny, project, field):
    bad = tiny.model_copy(update={"automation": tiny.automation.model_copy(update={field: "every night"})})
    with pytest.raises(SettingsError, match=rf"automation.{field} is 'every night', which is no cron schedule of five fields"):
        definitions(bad, Store(project))


class Daemon:
    """The graph in a project folder, and what the daemon asks for from tick to tick, ten minutes apart."""

    def __init__(self, profile: Profile, project: Path) -> None:
        self.profile, self.project, self.cursor = profile, project, None
        self.instance, self.time = dg.DagsterInstance.ephemeral(), datetime(2026, 1, 1, 0, 5, tzinfo=UTC)

    def tick(self) -> set[str]:
        """Names of the assets that are asked for."""
        self.time += timedelta(minutes=10)
        asked = dg.evaluate_automation_conditions(
            definitions(self.profile, Store(self.project)), self.instance, cursor=self.cursor, evaluation_time=self.time
        )
        self.cursor = asked.cursor
        return {result.key.to_user_string() for result in asked.results if result.true_subset.size}

    def make(self, *assets: str) -> None:
        """Materialize them, as the run that the daemon starts does."""
        job = definitions(self.profile, Store(self.project)).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(asset_selection=[dg.AssetKey(name) for name in assets], instance=self.instance)
        assert result.success

    def settle(self) -> set[str]:
        """Do what is asked for until nothing but the look at the archive is, four ticks long; all else that was made."""
        made, quiet = set(), 0
        for _ in range(12):
            asked = self.tick()
            if asked:
                self.make(*asked)
            made |= asked - {"raw_npz"}
            quiet = 0 if asked - {"raw_npz"} else quiet + 1
            if quiet == 4:
                return made
        raise AssertionError("the daemon never comes to rest")


@pytest.fixture
def daemon(tiny, project) -> Daemon:
    """A daemon at rest over a labelled archive."""
    daemon = Daemon(tiny, project)
    daemon.make(*RELABELLED)
    daemon.settle()
    return daemon


def test_nothing_changed_and_only_the_archive_is_looked_at(daemon):
    assert set().union(*(daemon.tick() for _ in range(3))) == {"raw_npz"}


def test_the_first_labels_are_made(tiny, project):
    assert Daemon(tiny, project).settle() == {"image_embeddings", "labeled_dataset", "label_metrics"}


@pytest.mark.parametrize(
    ("section", "values", "made"),
    [
        ("labelling", {"templates": ("a film of {phrase}",)}, {"labeled_dataset", "label_metrics"}),
        ("labelling", {"calibration": "none", "decision": "argmax"}, {"labeled_dataset", "label_metrics"}),
        ("data", {"seed": 7}, {"image_embeddings", "labeled_dataset", "label_metrics"}),
        ("subset", {"per_class": 5}, set()),
        ("training", {"steps": 9}, set()),
        ("execution", {"label_batch": 3}, set()),
        ("checks", {"max_ece": 0.5}, set()),
    ],
)
def test_a_change_relabels_and_does_nothing_else(daemon, section, values, made):
    daemon.profile = shrink(daemon.profile, **{section: values})
    assert daemon.settle() == made


def test_another_model_embeds_and_labels_anew_and_goes_no_further_if_the_labels_are_the_same(daemon, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(EMBEDDED / "clip", folder)
    pin = {"id": str(folder), "sha256": folder_digest(folder), "licence": "MIT"}
    daemon.profile = shrink(daemon.profile, labelling={"model": pin})
    assert daemon.settle() == {"image_embeddings", "labeled_dataset"}


def test_the_sensor_watches_the_labels_and_runs_their_checks():
    sensor = defs.resolve_sensor_def("relabel_on_change")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    with_condition = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs() if spec.automation_condition}
    assert with_condition == set(RELABELLED)
