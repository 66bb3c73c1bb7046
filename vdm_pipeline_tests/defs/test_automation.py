"""Re-labelling by the clock; and whatever changed, made down to the report by the daemon's own evaluation."""

import errno
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from vdm_pipeline.definitions import defs
from vdm_pipeline.defs import automation
from vdm_pipeline.defs import materialize as materialize_module
from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.errors import PipelineError, SettingsError
from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental import staleness as freshness
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import stale_assets
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io import atomic
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets.graph import computed, lasting, materialize, sentence, unsynced
from vdm_pipeline_tests.defs.assets.project import ProjectFolder
from vdm_pipeline_tests.defs.assets.test_changes import ALL, MEASURED, TABLE


def test_the_schedule_asks_for_labels_and_nothing_after_them():
    schedule = defs.resolve_schedule_def("relabel")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 3 * * 1"
    tick = schedule.evaluate_tick(dg.build_schedule_context())
    assert len(tick.run_requests) == 1
    job = defs.resolve_job_def("relabel")
    selected = {
        key.to_user_string()
        for key in job.asset_layer.executable_asset_keys & job.asset_layer.selected_asset_keys
    }
    assert selected == {"raw_npz", "image_embeddings", "labeled_dataset", "label_metrics"}


def test_a_bad_cron_is_a_sentence(tiny, project):
    bad = tiny.model_copy(
        update={"automation": tiny.automation.model_copy(update={"relabel_cron": "every night"})}
    )
    with pytest.raises(
        SettingsError,
        match=r"automation.relabel_cron is 'every night', which is no cron schedule of five fields",
    ):
        build_definitions(bad, Store(project))


def test_the_sensor_looks_after_every_asset_and_is_off_at_first():
    sensor = defs.resolve_sensor_def("remake_on_change")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert {
        spec.key.to_user_string() for spec in defs.resolve_all_asset_specs() if spec.automation_condition
    } == ALL


class Daemon:
    """What Dagster's daemon asks for from tick to tick, and the runs that it starts."""

    def __init__(self, project: ProjectFolder, instance: dg.DagsterInstance) -> None:
        self.project, self.instance, self.cursor, self.edited = project, instance, None, False
        self.time = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)

    def tick(self) -> set[str]:
        """Names of the assets that are asked for."""
        self.time += timedelta(seconds=30)
        project = self.project
        asked = dg.evaluate_automation_conditions(
            build_definitions(project.profile, Store(project.root), lambda: self.edited),
            self.instance,
            cursor=self.cursor,
            evaluation_time=self.time,
        )
        self.cursor = asked.cursor
        return {result.key.to_user_string() for result in asked.results if result.true_subset.size}

    def settle(self) -> list[set[str]]:
        """Start the runs that are asked for until three ticks ask for none; what was computed in each."""
        runs, quiet = [], 0
        while quiet < 3:
            asked = self.tick()
            quiet = 0 if asked else quiet + 1
            if asked:
                runs.append(
                    computed(
                        materialize(self.project.profile, self.project.root, sorted(asked), self.instance)
                    )
                )
            assert len(runs) < 4, "the daemon never comes to rest"
        return runs


@pytest.fixture
def daemon(made, monkeypatch):
    monkeypatch.setattr(freshness, "SETTLED_S", 0.0)
    with lasting(made.home) as instance:
        yield Daemon(made, instance)


QUICK = {"nothing", "limit of a check", "a table edited", "labeller's pin"}


@pytest.mark.parametrize("row", [row for row in TABLE if row.what in QUICK], ids=lambda row: row.what)
def test_a_change_is_made_good_in_one_run(daemon, row):
    """Also by the first tick that there ever was: what is wanted is read from the records, not from what went before."""
    row.change(daemon.project)
    assert daemon.settle() == ([row.computes] if row.computes else [])
    assert unsynced(daemon.project.profile, daemon.project.root, daemon.instance) == set()


def test_another_archive_is_carried_down_to_the_report(daemon):
    assert daemon.settle() == []
    daemon.project.change_a_pixel(of_the_subset=True)
    assert daemon.settle() == [ALL - {"baseline_images"}]


def test_an_archive_that_is_still_being_written_is_waited_for(daemon, monkeypatch):
    monkeypatch.setattr(freshness, "SETTLED_S", 5.0)
    daemon.project.change_a_pixel(of_the_subset=False)
    assert daemon.tick() == set()
    later = time.time() + 6
    monkeypatch.setattr(freshness.time, "time", lambda: later)
    assert {"raw_npz", "report"} <= daemon.tick()


def test_a_bad_archive_is_tried_once_and_a_good_one_taken_up(daemon):
    project, good = daemon.project, daemon.project.archive.read_bytes()
    project.archive.write_bytes(good[:1000])
    assert daemon.settle() == [set()]
    project.archive.write_bytes(good)
    assert daemon.settle() == []
    assert project.stale() == set()
    project.change_a_pixel(of_the_subset=False)
    (run,) = daemon.settle()
    assert {"raw_npz", "report"} <= run


def test_a_failed_blocking_check_stops_the_chain_and_better_labels_set_it_going(daemon):
    project, good = daemon.project, daemon.project.profile
    project.change(checks={"max_class_share": 0.4}, labelling={"templates": ("a film of {phrase}",)})
    assert daemon.settle() == [{"labeled_dataset"}, {"label_metrics"}]
    project.profile = good
    assert daemon.settle() == [{"labeled_dataset", "label_metrics"}]
    assert project.stale() == unsynced(good, project.root, daemon.instance) == set()


def test_another_limit_has_the_check_look_again(daemon):
    """Relaxed, the chain goes on; tightened, it stops, though the asset itself stands."""
    project, good = daemon.project, daemon.project.profile
    project.change(checks={"max_class_share": 0.4}, subset={"per_class": 6})
    assert daemon.settle() == [set()]
    assert "lora_subset" in project.stale()
    (stopped,) = Project(project.profile, Store(project.root)).stops("labeled_dataset").items()
    assert stopped[0] == "labels_predict_every_class" and "max_class_share = 0.4" in (stopped[1] or "")
    project.change(checks={"max_class_share": 0.95}, subset={"per_class": 6})
    (run,) = daemon.settle()
    assert {"lora_subset", "lora_weights", *MEASURED} <= run
    project.profile = good
    daemon.settle()
    assert project.stale() == set()


def test_what_no_blocking_check_has_looked_at_is_looked_at_first(daemon):
    """A run that was killed between an asset and its checks: nobody reads the asset until they were made up for."""
    project = daemon.project
    (project.results / ".manifests/lora_subset.checks.json").unlink()
    result = materialize(project.profile, project.root, ["lora_weights"])
    assert sentence(result).startswith(
        "Check subset_is_balanced has not looked at lora_subset as it stands; run: dagster asset"
    )
    assert daemon.settle() == [set()]
    assert materialize(project.profile, project.root, ["lora_weights"]).success


def test_a_check_that_crashes_stops_what_comes_after_it_and_is_not_asked_for_ever(daemon, monkeypatch):
    from vdm_pipeline.stages.labelling import check_outcomes as findings

    project = daemon.project
    project.change(subset={"per_class": 6})
    with monkeypatch.context() as patch:
        patch.setattr(findings, "balanced", lambda *_: 1 / 0)
        (run,) = daemon.settle()
        assert run == {"lora_subset"}
    assert daemon.settle() == []
    assert materialize(project.profile, project.root, instance=daemon.instance).success


def test_what_was_killed_is_gone_on_with_three_times_and_what_failed_is_not(daemon):
    """A killed process notes no failure; one that is killed each time is given up."""
    project = daemon.project
    run = Project(project.profile, Store(project.root))
    shutil.rmtree(project.results / "lora")
    for _ in range(3):
        assert "lora_weights" in stale_assets(run)
        run.store.begin("lora_weights", freshness.state(run, "lora_weights"))
    assert stale_assets(run) == set()
    run.store.done("lora_weights")
    run.store.begin("lora_weights", freshness.state(run, "lora_weights"))
    assert "lora_weights" in stale_assets(run)
    run.store.fail("lora_weights", freshness.state(run, "lora_weights"))
    assert stale_assets(run) == set()
    assert "lora_weights" in stale_assets(
        Project(shrink(project.profile, execution={"micro_batch_size": 1}), run.store)
    ), "it may be done otherwise"


def test_while_the_disk_is_full_nothing_is_asked_for_and_the_tick_says_so(daemon, monkeypatch):
    """What cannot be noted as begun would be begun every fifteen seconds."""

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    assert daemon.settle() == []
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync", full)
        assert daemon.settle() == [], "nothing is wanted, so nothing is written"
        shutil.rmtree(daemon.project.results / "report")
        with pytest.raises(Exception, match="Error while evaluating conditions") as caught:
            daemon.tick()
        assert isinstance(caught.value.__cause__, PipelineError)
        assert str(caught.value.__cause__).startswith("The disk is full (")
    assert daemon.settle() == [{"report"}]


def test_what_another_instance_did_is_told_to_this_one(daemon):
    project = daemon.project
    project.change(evaluation={"judge_epochs": 2})
    assert materialize(project.profile, project.root).success
    assert unsynced(project.profile, project.root, daemon.instance) == MEASURED
    assert daemon.settle() == [set()]
    assert unsynced(project.profile, project.root, daemon.instance) == set()


def test_one_tick_has_one_answer(daemon, monkeypatch):
    """An archive that settles in the middle of a tick is not left out of what is asked for."""
    asked: list[int] = []
    monkeypatch.setattr(automation, "wanted", lambda run: asked.append(1) or set())
    daemon.tick()
    assert len(asked) == 1


def test_what_a_new_instance_does_not_know_is_told_to_it(made):
    with lasting(made.root.parent / "new home") as instance:
        assert Daemon(made, instance).settle() == [set()]
        assert unsynced(made.profile, made.root, instance) == set()


def test_while_a_run_works_nothing_is_asked_for(daemon):
    """Such as the checks of an asset that it has just made: it is about to do them."""
    project = daemon.project
    (project.results / ".manifests/extra_images.checks.json").unlink()
    with Store(project.root).working("another", print):
        assert daemon.tick() == set()
    ours = create_run_for_test(
        daemon.instance,
        status=dg.DagsterRunStatus.STARTING,
        asset_selection=frozenset({dg.AssetKey("raw_npz")}),
    )
    create_run_for_test(
        daemon.instance,
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey("of_others")}),
    )
    assert daemon.tick() == set()
    daemon.instance.report_run_failed(ours)
    assert "extra_images" in daemon.tick()


def test_what_cannot_be_told_is_not_asked_for_ever(made, monkeypatch):
    monkeypatch.setattr(materialize_module, "_result", lambda *_, **__: 1 / 0)
    with lasting(made.root.parent / "new home") as instance:
        assert Daemon(made, instance).settle() == [set()]


def test_from_nothing_everything_is_made_in_one_run(tiny, project, monkeypatch):
    with lasting(project / "home") as instance:
        daemon = Daemon(ProjectFolder(tiny, project, project / "home", monkeypatch), instance)
        assert daemon.settle() == [ALL]


def test_a_profile_that_was_edited_is_waited_for_until_it_is_loaded(daemon):
    """A run would read the new one, and find nothing to do for what the old one asks."""
    daemon.project.change(evaluation={"judge_epochs": 2})
    daemon.edited = True
    assert daemon.settle() == []
    daemon.edited = False
    assert daemon.settle() == [MEASURED]


def test_who_failed_is_asked_again_when_its_settings_changed(daemon):
    project = daemon.project
    project.change(subset={"per_class": 500})
    assert daemon.settle() == [set()]
    project.change(subset={"per_class": 8})
    assert daemon.settle() == []
    assert project.stale() == set()


def test_wanted_of_an_unlabelled_project_waits_for_nothing_that_is_there(made):
    shutil.rmtree(made.results / "lora")
    assert stale_assets(Project(made.profile, Store(made.root))) == {
        "lora_weights",
        "generated_images",
        "extra_images",
        *MEASURED,
    }
    assert set(STAGES) == ALL


def test_execution_is_no_reason(made):
    profile = shrink(made.profile, execution={"label_batch_size": 3})
    assert stale_assets(Project(profile, Store(made.root))) == set()
