"""The re-labelling schedule, and the sensor that recomputes stale assets, by the daemon's own evaluation."""

import errno
import os
import shutil
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.definitions import defs
from vdm_pipeline.defs import materialize as materialize_module
from vdm_pipeline.defs.build import build_definitions
from vdm_pipeline.errors import PipelineError, SettingsError
from vdm_pipeline.incremental.project import BlockReason, Project
from vdm_pipeline.incremental.staleness import attempt_state, stale_assets
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io import atomic
from vdm_pipeline_tests.dagster_internals import SensorExecutionData, create_run_for_test
from vdm_pipeline_tests.defs.assets.graph import (
    computed,
    error_message,
    materialize,
    persistent_instance,
    unsynced,
)
from vdm_pipeline_tests.defs.assets.project import ProjectFolder
from vdm_pipeline_tests.defs.assets.test_changes import ALL, MEASURED, TABLE
from vdm_pipeline_tests.io.test_zip_copy import COPIES
from vdm_pipeline_tests.profiles import shrink


def test_the_schedule_requests_labels_and_nothing_downstream():
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


def test_a_bad_cron_is_an_error(tiny, project):
    bad = tiny.model_copy(
        update={"automation": tiny.automation.model_copy(update={"relabel_cron": "every night"})}
    )
    with pytest.raises(
        SettingsError,
        match=r"automation.relabel_cron is 'every night'",
    ):
        build_definitions(bad, Store(project))


def test_the_sensor_may_request_every_asset_and_is_off_by_default():
    sensor = defs.resolve_sensor_def("rematerialize_on_change")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    (job,) = sensor.jobs
    assert {key.to_user_string() for key in job.selection.resolve(defs.resolve_asset_graph())} == ALL


class Daemon:
    """The ticks of the sensor, and the runs that the daemon starts from them."""

    def __init__(self, project: ProjectFolder, instance: dg.DagsterInstance) -> None:
        self.project, self.instance, self.edited = project, instance, False

    def tick(self) -> SensorExecutionData:
        """What the sensor requests, or why it requests nothing."""
        definitions = build_definitions(self.project.profile, Store(self.project.root), lambda: self.edited)
        context = dg.build_sensor_context(self.instance, definitions=definitions)
        tick = definitions.resolve_sensor_def("rematerialize_on_change").evaluate_tick(context)
        assert not context.has_captured_logs(), "Dagster never deletes the log of a tick"
        return tick

    def requested(self) -> set[str]:
        """Names of the assets that a tick requests."""
        return {
            key.to_user_string() for request in self.tick().run_requests for key in request.asset_selection
        }

    def settle(self) -> list[set[str]]:
        """Start the requested runs until a tick requests none; the assets that each run computed."""
        runs = []
        while requests := self.tick().run_requests:
            (request,) = requests
            names = [key.to_user_string() for key in request.asset_selection]
            runs.append(
                computed(
                    materialize(
                        self.project.profile, self.project.root, names, self.instance, dict(request.tags)
                    )
                )
            )
            assert len(runs) < 4, "the daemon never settles"
        return runs


@pytest.fixture
def daemon(finished):
    with persistent_instance(finished.home) as instance:
        yield Daemon(finished, instance)


QUICK = {"nothing", "limit of a check", "a table edited", "labeller's pin"}


@pytest.mark.parametrize("row", [row for row in TABLE if row.what in QUICK], ids=lambda row: row.what)
def test_one_run_recomputes_all_stale_assets(daemon, row):
    """Even in the first tick ever: staleness comes from the manifests, not from earlier ticks."""
    row.change(daemon.project)
    assert daemon.settle() == ([row.computes] if row.computes else [])
    assert unsynced(daemon.project.profile, daemon.project.root, daemon.instance) == set()


@pytest.mark.slow
def test_a_changed_archive_updates_the_report(daemon):
    assert daemon.settle() == []
    daemon.project.change_a_pixel("train", selected=True)
    assert daemon.settle() == [ALL - {"baseline_images"}]


@pytest.mark.parametrize("copy", COPIES)
def test_an_archive_that_is_still_being_copied_is_not_read_however_long_the_copy_rests(daemon, copy):
    project, old = daemon.project, daemon.project.archive.read_bytes()
    project.change_a_pixel("train", selected=False)
    new = project.archive.read_bytes()
    project.archive.write_bytes(COPIES[copy](old, new, len(new) // 2))
    assert daemon.requested() == set()
    assert f"{project.archive} is not complete: " in daemon.tick().skip_message
    project.archive.write_bytes(new)
    assert {"raw_npz", "report"} <= daemon.requested()


def test_a_model_folder_that_is_still_being_copied_is_waited_for(daemon):
    project = daemon.project
    pin = project.pin("clip")
    weights = Path(pin["id"]) / "open_clip_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    project.change(labelling={"model": pin})
    tick = daemon.tick()
    assert not tick.run_requests
    assert tick.skip_message.startswith(f"Model folder {pin['id']} has sha256 ")
    weights.write_bytes(whole)
    assert "image_embeddings" in daemon.requested()


@pytest.mark.slow
def test_a_truncated_archive_is_waited_for_and_another_file_is_attempted_once(daemon):
    project, good = daemon.project, daemon.project.archive.read_bytes()
    project.archive.write_bytes(good[:1000])
    assert daemon.settle() == []
    assert daemon.tick().skip_message == (
        f"{project.archive} is not complete: its end or a part of it is missing. "
        "The sensor waits until the copy is complete. If copying has ended, copy the file again."
    )
    project.archive.write_bytes(b"<html>" + good)
    assert daemon.settle() == [set()]
    assert daemon.tick().skip_message.startswith("raw_npz failed or was stopped. The sensor retries when")
    project.archive.write_bytes(good)
    assert daemon.settle() == []
    assert project.stale() == set()
    project.change_a_pixel("train", selected=False)
    (run,) = daemon.settle()
    assert {"raw_npz", "report"} <= run


def test_a_failed_blocking_check_blocks_and_better_labels_unblock(daemon):
    project, good = daemon.project, daemon.project.profile
    project.change(checks={"max_class_share": 0.4}, labelling={"templates": ("a film of {phrase}",)})
    assert daemon.settle() == [{"labeled_dataset"}, {"label_metrics"}]
    project.profile = good
    assert daemon.settle() == [{"labeled_dataset", "label_metrics"}]
    assert project.stale() == unsynced(good, project.root, daemon.instance) == set()


@pytest.mark.slow
def test_another_limit_runs_the_check_again(daemon):
    """A relaxed limit unblocks. A tightened one blocks, although the asset is up to date."""
    project, good = daemon.project, daemon.project.profile
    project.change(checks={"max_class_share": 0.4}, subset={"per_class": 6})
    assert daemon.settle() == [set()]
    assert "lora_subset" in project.stale()
    (failure,) = Project(project.profile, Store(project.root)).blocking_failures("labeled_dataset")
    assert failure.check == "labels_predict_every_class"
    assert failure.reason is BlockReason.FAILED
    assert "checks.max_class_share" in failure.sentence
    project.change(checks={"max_class_share": 0.95}, subset={"per_class": 6})
    (run,) = daemon.settle()
    assert {"lora_subset", "lora_weights", *MEASURED} <= run
    project.profile = good
    daemon.settle()
    assert project.stale() == set()


def test_an_asset_is_read_only_after_its_blocking_checks_ran(daemon):
    """A run may be killed between an asset and its checks."""
    project = daemon.project
    (project.results / ".manifests/lora_subset.checks.json").unlink()
    result = materialize(project.profile, project.root, ["lora_weights"])
    assert error_message(result).startswith("Check subset_is_balanced has not run on the current lora_subset")
    assert daemon.settle() == [set()]
    assert materialize(project.profile, project.root, ["lora_weights"]).success


def test_a_check_that_crashes_blocks_and_is_not_requested_for_ever(daemon, monkeypatch):
    from vdm_pipeline.stages.subset import check_outcomes

    project = daemon.project
    project.change(subset={"per_class": 6})
    with monkeypatch.context() as patch:
        patch.setattr(check_outcomes, "balanced", lambda *_: 1 / 0)
        (run,) = daemon.settle()
        assert run == {"lora_subset"}
    assert daemon.settle() == []
    unblocked = ["lora_subset", "lora_weights"]
    assert materialize(project.profile, project.root, unblocked, daemon.instance).success


def test_a_killed_asset_is_requested_three_times_and_a_failed_one_is_not(daemon):
    """A killed process records no failure. After three kills the daemon gives up."""
    project = daemon.project
    folder = Project(project.profile, Store(project.root))
    shutil.rmtree(project.results / "lora")
    for _ in range(3):
        assert "lora_weights" in stale_assets(folder)
        folder.store.start_attempt("lora_weights", attempt_state(folder, "lora_weights"))
    assert stale_assets(folder) == set()
    folder.store.clear_attempt("lora_weights")
    folder.store.start_attempt("lora_weights", attempt_state(folder, "lora_weights"))
    assert "lora_weights" in stale_assets(folder)
    folder.store.fail_attempt("lora_weights", attempt_state(folder, "lora_weights"))
    assert stale_assets(folder) == set()
    assert "lora_weights" in stale_assets(
        Project(shrink(project.profile, execution={"micro_batch_size": 1}), folder.store)
    ), "other execution settings may succeed"


def test_while_the_disk_is_full_the_tick_fails_and_requests_nothing(daemon, monkeypatch):
    """An attempt that cannot be recorded would start every fifteen seconds."""

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    assert daemon.settle() == []
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync", full)
        assert daemon.settle() == [], "nothing is stale, so nothing is written"
        shutil.rmtree(daemon.project.results / "report")
        with pytest.raises(PipelineError, match=r"^The disk is full \("):
            daemon.tick()
    assert daemon.settle() == [{"report"}]


def test_this_instance_learns_what_another_one_computed(daemon):
    project = daemon.project
    project.change(evaluation={"judge_epochs": 2})
    assert materialize(project.profile, project.root).success
    assert unsynced(project.profile, project.root, daemon.instance) == MEASURED
    assert daemon.settle() == [set()]
    assert unsynced(project.profile, project.root, daemon.instance) == set()


def test_a_new_instance_learns_what_is_up_to_date(finished):
    with persistent_instance(finished.root.parent / "new home") as instance:
        assert Daemon(finished, instance).settle() == [set()]
        assert unsynced(finished.profile, finished.root, instance) == set()


def test_nothing_is_requested_while_a_run_is_active(daemon):
    """The active run may be about to run the checks of an asset that it just computed."""
    project = daemon.project
    (project.results / ".manifests/extra_images.checks.json").unlink()
    with Store(project.root).lock("another", print):
        assert daemon.tick().skip_message == "A run is active."
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
    assert daemon.tick().skip_message == "A run is active."
    daemon.instance.report_run_failed(ours)
    assert "extra_images" in daemon.requested()


def test_an_asset_that_cannot_be_reported_is_not_requested_for_ever(finished, monkeypatch):
    monkeypatch.setattr(materialize_module, "_result", lambda *_, **__: 1 / 0)
    with persistent_instance(finished.root.parent / "new home") as instance:
        assert Daemon(finished, instance).settle() == [set()]


@pytest.mark.slow
def test_an_empty_project_is_computed_in_one_run(tiny, project, monkeypatch):
    with persistent_instance(project / "home") as instance:
        daemon = Daemon(ProjectFolder(tiny, project, project / "home", monkeypatch), instance)
        assert daemon.settle() == [ALL]


def test_nothing_is_requested_until_an_edited_profile_is_reloaded(daemon):
    """A run would load the new profile, and other assets would be stale under it."""
    daemon.project.change(evaluation={"judge_epochs": 2})
    daemon.edited = True
    assert daemon.settle() == []
    assert "press 'Reload definitions'" in daemon.tick().skip_message
    daemon.edited = False
    assert daemon.settle() == [MEASURED]


def test_a_failed_asset_is_requested_again_after_its_settings_change(daemon):
    project = daemon.project
    project.change(subset={"per_class": 500})
    assert daemon.settle() == [set()]
    project.change(subset={"per_class": 8})
    assert daemon.settle() == []
    assert project.stale() == set()


def test_stale_assets_include_everything_downstream_of_a_lost_one(finished):
    shutil.rmtree(finished.results / "lora")
    assert stale_assets(Project(finished.profile, Store(finished.root))) == {
        "lora_weights",
        "generated_images",
        "extra_images",
        *MEASURED,
    }


def test_execution_settings_make_nothing_stale(finished):
    profile = shrink(finished.profile, execution={"label_batch_size": 3})
    assert stale_assets(Project(profile, Store(finished.root))) == set()


def test_an_asset_whose_ancestor_failed_is_not_requested(daemon):
    """Its own inputs are up to date, but they are of an older subset; a run would fail again and again."""
    daemon.project.change(subset={"per_class": 500}, generation={"adapter_weight": 0.5})
    assert daemon.settle() == [set()]
    assert "generated_images" in daemon.project.stale()


def test_an_input_with_other_parts_is_reported_once(daemon):
    """The suspect labels read labels alone: Dagster marks them, the records do not."""
    project = daemon.project
    project.change(labelling={"calibration": "none", "decision": "argmax"})
    result = materialize(project.profile, project.root, ["labeled_dataset", "label_metrics"], daemon.instance)
    assert computed(result) == {"labeled_dataset", "label_metrics"}
    assert "label_noise" in unsynced(project.profile, project.root, daemon.instance) - project.stale()
    (run,) = daemon.settle()
    assert run == {"lora_subset", "pipeline_summary", "report"}
    assert unsynced(project.profile, project.root, daemon.instance) == set()
