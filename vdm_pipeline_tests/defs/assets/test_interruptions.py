"""Two runs at once, a disk that is full or closed, a network that stalls, a clock that goes back."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from vdm_pipeline.defs import materialize as module
from vdm_pipeline.errors import ArchiveError, NetworkError
from vdm_pipeline.incremental import store as store_module
from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.staleness import stale_assets
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.io import atomic
from vdm_pipeline.stages.data import archive
from vdm_pipeline_tests.bad_inputs.case import as_nobody, snapshot
from vdm_pipeline_tests.conftest import write_profile
from vdm_pipeline_tests.defs.assets.graph import computed, lasting, materialize, sentence, unsynced
from vdm_pipeline_tests.paths import ROOT

LABELS = ["raw_npz", "image_embeddings", "labeled_dataset", "label_metrics"]


def start(root: Path, log: Path) -> subprocess.Popen:
    """The command line, on the labels and what they are made from."""
    chosen = ["-m", "vdm_pipeline.definitions", "--select", ",".join(LABELS)]
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", *chosen]
    environment = {key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"} | {
        "VDM_PROFILE": "small.toml"
    }
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT
    )


def test_of_two_runs_at_once_the_second_waits_and_re_uses(tiny, project, tmp_path, monkeypatch):
    """The second is another process, begun while the first makes its first asset, which goes on when the second says that it waits."""
    write_profile(project / "small.toml", tiny)
    log, obtain, begun = tmp_path / "second.log", archive.obtain_archive, []

    def meanwhile(*given: object) -> Path:
        begun.append(start(project, log))
        until = time.monotonic() + 120
        while f"works in {project / 'results'}; waiting for its end." not in log.read_text():
            assert begun[0].poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.05)
        return obtain(*given)

    monkeypatch.setattr(archive, "obtain_archive", meanwhile)
    first = materialize(tiny, project, LABELS)
    assert first.success, sentence(first)
    assert computed(first) == set(LABELS)
    assert begun[0].wait(120) == 0, log.read_text()[-2000:]
    assert ": computing (" not in log.read_text()


@pytest.fixture
def failing(monkeypatch):
    """Have the look at the archive fail so many times; how often it was tried."""
    tries: list[int] = []
    obtain = archive.obtain_archive
    monkeypatch.setattr(module, "NETWORK_WAITS_S", (0, 0))

    def set_up(error: Exception, times: int) -> list[int]:
        def fail(*given):
            tries.append(len(tries))
            if len(tries) <= times:
                raise error
            return obtain(*given)

        monkeypatch.setattr(archive, "obtain_archive", fail)
        return tries

    return set_up


def test_a_network_that_comes_back_is_waited_for(tiny, project, failing, capsys):
    tries = failing(NetworkError("The hub does not answer."), 2)
    assert materialize(tiny, project, ["raw_npz"]).success
    assert len(tries) == 3
    assert capsys.readouterr().err.count("The hub does not answer. Trying again in 0 s.") == 2


@pytest.mark.parametrize(
    ("error", "tried"), [(NetworkError("It is gone."), 3), (ArchiveError("It is bad."), 1)]
)
def test_a_network_that_stays_away_and_any_other_fault_are_told(tiny, project, failing, error, tried):
    tries = failing(error, 99)
    result = materialize(tiny, project, ["raw_npz"])
    assert sentence(result) == str(error)
    assert len(tries) == tried


def test_a_fault_of_our_own_is_not_tried_again(tiny, project, failing):
    tries = failing(ZeroDivisionError("ours"), 99)
    assert not materialize(tiny, project, ["raw_npz"]).success
    assert len(tries) == 1


@pytest.mark.parametrize("writes", range(0, 37, 9))
def test_a_disk_that_fills_up_at_any_write_is_told_and_gone_on_from(made, monkeypatch, writes):
    """Nothing that stood is touched by what could not be written; the next run makes what it would have made."""
    before = {name: content for name, content in snapshot(made.root).items() if "/." not in f"/{name}"}
    made.change(labelling={"templates": ("a film of {phrase}",)})
    done: list[Path] = []
    sync = atomic.sync

    def full(path: Path) -> None:
        done.append(path)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync", full)
        result = materialize(made.profile, made.root, ["labeled_dataset", "label_metrics", "data_faults"])
    assert not result.success
    assert sentence(result).startswith("The disk is full (")
    after = {name: content for name, content in snapshot(made.root).items() if "/." not in f"/{name}"}
    assert after.keys() == before.keys()
    again = materialize(made.profile, made.root, ["labeled_dataset", "label_metrics", "data_faults"])
    assert again.success, sentence(again)


def test_a_folder_that_may_not_be_written_to_is_told(tiny, project, open_folder):
    assert materialize(tiny, project, ["raw_npz"]).success  # all is imported while that is allowed
    (open_folder / "data").mkdir()
    (open_folder / "results").mkdir()
    with as_nobody():
        result = materialize(tiny, open_folder, ["raw_npz"])
    assert not result.success
    (fault,) = [event for event in result.all_events if event.event_type_value == "RESOURCE_INIT_FAILURE"]
    said = f"{open_folder / 'results/.lock'}: Permission denied; make it writable, or set VDM_ROOT to a folder that is."
    assert said in fault.event_specific_data.error.message
    assert set(open_folder.rglob("*")) == {open_folder / "data", open_folder / "results"}


def test_a_clock_that_goes_back_makes_nothing_old_or_new(made, monkeypatch):
    past = time.time() - 100_000
    monkeypatch.setattr(time, "time", lambda: past)
    with lasting(made.home) as instance:
        assert made.stale() == unsynced(made.profile, made.root, instance) == set()
        assert computed(materialize(made.profile, made.root, instance=instance)) == set()
        made.change(evaluation={"judge_epochs": 2})
        assert (
            made.stale()
            == unsynced(made.profile, made.root, instance)
            == {"image_metrics", "pipeline_summary", "report"}
        )
        assert computed(materialize(made.profile, made.root, instance=instance)) == {
            "image_metrics",
            "pipeline_summary",
            "report",
        }
        assert made.stale() == unsynced(made.profile, made.root, instance) == set()


def test_files_with_time_stamps_of_any_time_are_read_by_their_content(made):
    for path in made.results.rglob("*.png"):
        os.utime(path, (4_000_000_000, 4_000_000_000))
    assert made.stale() == set()


@pytest.fixture
def meddling(made, monkeypatch):
    """Have a file changed while an asset is made, after it was looked at; gives the bytes that it had."""

    def set_up(name: str) -> bytes:
        good = (made.root / name).read_bytes()
        monkeypatch.setattr(
            module,
            "forget_peak",
            lambda: (made.root / name).write_bytes(good.replace(b"normal", b"Normal", 1)),
        )
        return good

    return set_up


@pytest.mark.parametrize(
    ("asset", "of", "name"),
    [
        ("label_metrics", "labeled_dataset", "results/labeled_dataset.csv"),
        ("lora_weights", "lora_subset", "data/subset/metadata.jsonl"),
    ],
)
def test_what_was_made_from_an_input_that_changed_meanwhile_is_thrown_away(
    made, meddling, monkeypatch, asset, of, name
):
    good = meddling(name)
    record = (made.results / f".manifests/{asset}.json").read_bytes()
    monkeypatch.setenv("VDM_FORCE", asset)
    said = sentence(materialize(made.profile, made.root, [asset]))
    assert said.startswith(
        f"While {asset} was made from it: Files of asset {of} were changed since they were made; run: "
    )
    assert (made.results / f".manifests/{asset}.json").read_bytes() == record
    assert not list((made.results / ".staging" / asset).iterdir())
    assert asset != "lora_weights" or not (made.results / ".training").exists(), "it would be gone on with"
    (made.root / name).write_bytes(good)
    assert made.stale() == set()


def test_an_archive_that_changes_while_it_is_looked_at_is_told(made, monkeypatch):
    look = archive.read_archive
    monkeypatch.setattr(
        archive,
        "read_archive",
        lambda path, *given: (look(path, *given), path.write_bytes(path.read_bytes() + b"x"))[0],
    )
    monkeypatch.setenv("VDM_FORCE", "raw_npz")
    assert (
        sentence(materialize(made.profile, made.root, ["raw_npz"]))
        == f"{made.archive} was changed while it was looked at; run again."
    )


def test_a_check_keeps_nothing_of_an_asset_that_changed_while_it_looked(made, monkeypatch):
    from vdm_pipeline.stages.labelling import check_outcomes as findings

    verdicts = made.results / ".manifests/lora_subset.checks.json"
    verdicts.unlink()
    rows, pure = made.root / "data/subset/metadata.jsonl", findings.pure
    with monkeypatch.context() as patch:
        patch.setattr(
            findings, "pure", lambda *given: (pure(*given), rows.write_bytes(rows.read_bytes() + b"\n"))[0]
        )
        said = sentence(materialize(made.profile, made.root, ["lora_subset"]))
    assert said.startswith("Files of asset lora_subset were changed since they were made; run: ")
    assert "subset_is_pure" not in verdicts.read_text()


@pytest.mark.parametrize("terminated", [False, True])
def test_what_the_terminal_stopped_is_gone_on_with_and_what_the_ui_stopped_is_not(
    made, monkeypatch, terminated
):
    shutil.rmtree(made.results / "metrics/label_plots")
    with lasting(made.home) as instance, monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            if terminated:
                instance.report_run_canceling(instance.get_runs(limit=1)[0])
            raise DagsterExecutionInterruptedError

        patch.setattr(Store, "publish", interrupted)
        assert not materialize(made.profile, made.root, ["label_metrics"], instance).success
    noted = Store(made.root).tried("label_metrics")
    assert (noted is not None and noted.failed) == terminated
    assert ("label_metrics" in stale_assets(Project(made.profile, Store(made.root)))) != terminated


@pytest.mark.parametrize("published", ["nothing", "the table alone", "everything"])
def test_what_new_labels_changed_is_told_though_the_run_was_killed(made, monkeypatch, published):
    made.change(
        labelling={
            "phrases": made.profile.labelling.phrases[::-1],
            "calibration": "none",
            "decision": "argmax",
        }
    )
    made.change(checks={"min_purity": 0.0})
    diff = made.results / "metrics/relabel_diff.csv"

    def killed(store: Store, *given: object) -> None:
        raise SystemExit("killed")

    def half(new: Path, place: Path) -> None:
        if place == diff:
            raise SystemExit("killed")
        replace(new, place)

    replace = store_module.replace_path
    with monkeypatch.context() as patch:
        patch.setattr(Store, "fail", lambda *_: None)  # a killed process notes nothing
        if published == "the table alone":
            patch.setattr(store_module, "replace_path", half)
        else:
            patch.setattr(Store, "publish" if published == "nothing" else "record", killed)
        assert not materialize(made.profile, made.root, ["labeled_dataset"]).success
    again = materialize(made.profile, made.root, ["labeled_dataset"])
    assert computed(again) == {"labeled_dataset"}
    assert len(pd.read_csv(diff)) > 100


@pytest.mark.parametrize(
    "place", [".staging", ".staging/label_noise", ".training", ".cache", ".manifests", ".lock", ""]
)
def test_a_link_in_the_place_of_our_own_folders_is_not_followed(made, tmp_path, place):
    """What it leads to is not ours to write to, or to clear."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep/file").write_text("theirs")
    link = made.results / place if place else made.results
    if link.exists():
        link.rename(tmp_path / "aside")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere / "deep/file" if place == ".lock" else elsewhere)
    made.monkeypatch.setenv("VDM_FORCE", "label_noise,lora_weights")
    result = materialize(made.profile, made.root, ["label_noise", "lora_weights"])
    assert not result.success
    assert "and a place of our own is to be there; move it away." in str(
        [event.event_specific_data for event in result.all_events]
    )
    assert snapshot(elsewhere) == {"deep": "folder", "deep/file": b"theirs"}
