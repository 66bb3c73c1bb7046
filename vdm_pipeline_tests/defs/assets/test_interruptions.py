"""Two runs at once, a full or read-only disk, a network that stalls, a clock that goes back."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from vdm_pipeline.defs import materialize as module
from vdm_pipeline.errors import ArchiveError, NetworkError
from vdm_pipeline.incremental import store as store_module
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import stale_assets
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io import atomic
from vdm_pipeline.stages.data import archive
from vdm_pipeline_tests.bad_inputs.case import as_nobody, snapshot
from vdm_pipeline_tests.dagster_internals import DagsterExecutionInterruptedError
from vdm_pipeline_tests.defs.assets.graph import (
    computed,
    error_message,
    materialize,
    persistent_instance,
    unsynced,
)
from vdm_pipeline_tests.paths import ROOT, make_project
from vdm_pipeline_tests.profiles import write_profile

LABELS = ["raw_npz", "image_embeddings", "labeled_dataset", "label_metrics"]


def start(root: Path, log: Path) -> subprocess.Popen:
    """Run the command line on the labels and their upstream assets."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, "asset", "materialize", "--select", ",".join(LABELS)]
    environment = {key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"} | {
        "VDM_PROFILE": "small.toml"
    }
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=make_project(root), env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT
    )


def test_of_two_runs_at_once_the_second_waits_and_skips(tiny, project, tmp_path, monkeypatch):
    """The second is another process. It starts while the first run computes its first asset."""
    write_profile(project / "small.toml", tiny)
    log, obtain, processes = tmp_path / "second.log", archive.obtain_archive, []

    def meanwhile(*given: object) -> Path:
        processes.append(start(project, log))
        until = time.monotonic() + 120
        while f"is running in {project / 'results'}" not in log.read_text():
            assert processes[0].poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.05)
        return obtain(*given)

    monkeypatch.setattr(archive, "obtain_archive", meanwhile)
    first = materialize(tiny, project, LABELS)
    assert first.success, error_message(first)
    assert computed(first) == set(LABELS)
    assert processes[0].wait(120) == 0, log.read_text()[-2000:]
    assert ": computing (" not in log.read_text()


@pytest.fixture
def failing(monkeypatch):
    """Let reading the archive fail several times; returns the list of attempts."""
    attempts: list[int] = []
    obtain = archive.obtain_archive
    monkeypatch.setattr(module, "NETWORK_RETRY_S", (0, 0))

    def set_up(error: Exception, times: int) -> list[int]:
        def fail(*given):
            attempts.append(len(attempts))
            if len(attempts) <= times:
                raise error
            return obtain(*given)

        monkeypatch.setattr(archive, "obtain_archive", fail)
        return attempts

    return set_up


def test_a_network_error_is_retried(tiny, project, failing, printed):
    attempts = failing(NetworkError("The hub does not answer."), 2)
    assert materialize(tiny, project, ["raw_npz"]).success
    assert len(attempts) == 3
    assert printed.readouterr().err.count("The hub does not answer. Retrying in 0 s.") == 2


@pytest.mark.parametrize(
    ("error", "expected"), [(NetworkError("It is gone."), 3), (ArchiveError("It is bad."), 1)]
)
def test_a_lasting_network_error_and_any_other_error_are_reported(tiny, project, failing, error, expected):
    attempts = failing(error, 99)
    result = materialize(tiny, project, ["raw_npz"])
    assert error_message(result) == str(error)
    assert len(attempts) == expected


def test_a_bug_is_not_retried(tiny, project, failing):
    attempts = failing(ZeroDivisionError("ours"), 99)
    assert not materialize(tiny, project, ["raw_npz"]).success
    assert len(attempts) == 1


@pytest.mark.parametrize("writes", range(0, 37, 9))
def test_a_disk_that_fills_up_at_any_write_is_reported_and_the_next_run_succeeds(
    finished, monkeypatch, writes
):
    """A failed write changes no published file."""
    before = {name: content for name, content in snapshot(finished.root).items() if "/." not in f"/{name}"}
    finished.change(labelling={"templates": ("a film of {phrase}",)})
    done: list[Path] = []
    sync = atomic.sync

    def full(path: Path) -> None:
        done.append(path)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync", full)
        result = materialize(
            finished.profile, finished.root, ["labeled_dataset", "label_metrics", "data_faults"]
        )
    assert not result.success
    assert error_message(result).startswith("The disk is full (")
    after = {name: content for name, content in snapshot(finished.root).items() if "/." not in f"/{name}"}
    assert after.keys() == before.keys()
    again = materialize(finished.profile, finished.root, ["labeled_dataset", "label_metrics", "data_faults"])
    assert again.success, error_message(again)


def test_a_read_only_folder_is_reported(tiny, project, open_folder):
    assert materialize(tiny, project, ["raw_npz"]).success  # imports everything while that is allowed
    (open_folder / "data").mkdir()
    (open_folder / "results").mkdir()
    with as_nobody():
        result = materialize(tiny, open_folder, ["raw_npz"])
    assert not result.success
    (fault,) = [event for event in result.all_events if event.event_type_value == "RESOURCE_INIT_FAILURE"]
    assert f"{open_folder / 'results/.lock'}: Permission denied" in fault.event_specific_data.error.message
    assert set(open_folder.rglob("*")) == {open_folder / "data", open_folder / "results"}


def test_a_clock_that_goes_back_changes_no_decision(finished, monkeypatch):
    past = time.time() - 100_000
    monkeypatch.setattr(time, "time", lambda: past)
    with persistent_instance(finished.home) as instance:
        assert finished.stale() == unsynced(finished.profile, finished.root, instance) == set()
        assert computed(materialize(finished.profile, finished.root, instance=instance)) == set()
        finished.change(evaluation={"judge_epochs": 2})
        assert (
            finished.stale()
            == unsynced(finished.profile, finished.root, instance)
            == {"image_metrics", "pipeline_summary", "report"}
        )
        assert computed(materialize(finished.profile, finished.root, instance=instance)) == {
            "image_metrics",
            "pipeline_summary",
            "report",
        }
        assert finished.stale() == unsynced(finished.profile, finished.root, instance) == set()


def test_time_stamps_do_not_matter_only_content(finished):
    for path in finished.results.rglob("*.png"):
        os.utime(path, (4_000_000_000, 4_000_000_000))
    assert finished.stale() == set()


@pytest.fixture
def meddling(finished, monkeypatch):
    """Change a file while an asset is computed, after the file was checked; returns its old bytes."""

    def set_up(name: str) -> bytes:
        good = (finished.root / name).read_bytes()
        monkeypatch.setattr(
            module,
            "reset_peak_memory",
            lambda: (finished.root / name).write_bytes(good.replace(b"normal", b"Normal", 1)),
        )
        return good

    return set_up


@pytest.mark.parametrize(
    ("asset", "upstream", "name"),
    [
        ("label_metrics", "labeled_dataset", "results/labeled_dataset.csv"),
        ("lora_weights", "lora_subset", "data/subset/metadata.jsonl"),
    ],
)
def test_work_from_an_input_that_changed_meanwhile_is_dropped(
    finished, meddling, monkeypatch, asset, upstream, name
):
    good = meddling(name)
    record = (finished.results / f".manifests/{asset}.json").read_bytes()
    monkeypatch.setenv("VDM_FORCE", asset)
    message = error_message(materialize(finished.profile, finished.root, [asset]))
    assert message.startswith(
        f"An input changed while {asset} was computed: Files of asset {upstream} changed"
    )
    assert (finished.results / f".manifests/{asset}.json").read_bytes() == record
    assert not list((finished.results / ".staging" / asset).iterdir())
    assert asset != "lora_weights" or not (finished.results / ".training").exists(), (
        "a later run would resume it"
    )
    (finished.root / name).write_bytes(good)
    assert finished.stale() == set()


def test_an_archive_that_changes_while_it_is_read_is_an_error(finished, monkeypatch):
    look = archive.read_archive
    monkeypatch.setattr(
        archive,
        "read_archive",
        lambda path, *given: (look(path, *given), path.write_bytes(path.read_bytes() + b"x"))[0],
    )
    monkeypatch.setenv("VDM_FORCE", "raw_npz")
    assert str(finished.archive) in error_message(materialize(finished.profile, finished.root, ["raw_npz"]))


def test_a_check_records_nothing_if_the_asset_changes_meanwhile(finished, monkeypatch):
    from vdm_pipeline.stages.subset import check_outcomes

    results_file = finished.results / ".manifests/lora_subset.checks.json"
    results_file.unlink()
    rows, pure = finished.root / "data/subset/metadata.jsonl", check_outcomes.pure
    with monkeypatch.context() as patch:
        patch.setattr(
            check_outcomes,
            "pure",
            lambda *given: (pure(*given), rows.write_bytes(rows.read_bytes() + b"\n"))[0],
        )
        message = error_message(materialize(finished.profile, finished.root, ["lora_subset"]))
    assert message.startswith("Files of asset lora_subset changed")
    assert "subset_is_pure" not in results_file.read_text()


@pytest.mark.parametrize("terminated", [False, True])
def test_an_interrupted_run_is_resumed_and_one_that_the_ui_terminated_is_not(
    finished, monkeypatch, terminated
):
    shutil.rmtree(finished.results / "metrics/label_plots")
    with persistent_instance(finished.home) as instance, monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            if terminated:
                instance.report_run_canceling(instance.get_runs(limit=1)[0])
            raise DagsterExecutionInterruptedError

        patch.setattr(Store, "publish", interrupted)
        assert not materialize(finished.profile, finished.root, ["label_metrics"], instance).success
    attempt = Store(finished.root).attempt("label_metrics")
    assert (attempt is not None and attempt.failed) == terminated
    assert ("label_metrics" in stale_assets(Project(finished.profile, Store(finished.root)))) != terminated


@pytest.mark.parametrize("published", ["nothing", "only the table", "everything"])
def test_the_diff_of_new_labels_survives_a_kill(finished, monkeypatch, published):
    finished.change(
        labelling={
            "phrases": finished.profile.labelling.phrases[::-1],
            "calibration": "none",
            "decision": "argmax",
        }
    )
    finished.change(checks={"min_purity": 0.0})
    diff = finished.results / "metrics/relabel_diff.csv"

    def killed(store: Store, *given: object) -> None:
        raise SystemExit("killed")

    def half(new: Path, target: Path) -> None:
        if target == diff:
            raise SystemExit("killed")
        replace(new, target)

    replace = store_module.replace_path
    with monkeypatch.context() as patch:
        patch.setattr(Store, "fail_attempt", lambda *_: None)  # a killed process records nothing
        if published == "only the table":
            patch.setattr(store_module, "replace_path", half)
        else:
            patch.setattr(Store, "publish" if published == "nothing" else "write_manifest", killed)
        assert not materialize(finished.profile, finished.root, ["labeled_dataset"]).success
    again = materialize(finished.profile, finished.root, ["labeled_dataset"])
    assert computed(again) == {"labeled_dataset"}
    assert len(pd.read_csv(diff)) > 100


@pytest.mark.parametrize(
    "name", [".staging", ".staging/label_noise", ".training", ".cache", ".manifests", ".lock", ""]
)
def test_a_link_in_place_of_an_owned_folder_is_not_followed(finished, tmp_path, name):
    """The pipeline must neither write to its target nor clear it."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep/file").write_text("theirs")
    link = finished.results / name if name else finished.results
    if link.exists():
        link.rename(tmp_path / "aside")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere / "deep/file" if name == ".lock" else elsewhere)
    finished.monkeypatch.setenv("VDM_FORCE", "label_noise,lora_weights")
    result = materialize(finished.profile, finished.root, ["label_noise", "lora_weights"])
    assert not result.success
    assert f"{link} is a link to" in str([event.event_specific_data for event in result.all_events])
    assert snapshot(elsewhere) == {"deep": "folder", "deep/file": b"theirs"}
