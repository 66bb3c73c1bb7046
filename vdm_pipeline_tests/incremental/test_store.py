"""The project folder: staging, publishing, manifests, attempts, and whether files are intact."""

import hashlib
import os
from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.store import Attempt, Store
from vdm_pipeline.io import hashing
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.manifest import Manifest, data_version
from vdm_pipeline_tests.paths import make_project

OUTPUTS = ["results/table.csv", "results/folder"]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path.resolve())


def work(staging: Path, text: str = "new") -> None:
    (staging / "table.csv").write_text(text)
    (staging / "folder/deep").mkdir(parents=True)
    (staging / "folder/deep/x.txt").write_text(text)


def manifest(files: dict[str, str]) -> Manifest:
    return Manifest(
        asset="thing",
        fingerprint="f",
        code_version="1-a",
        data_version="d",
        inputs={"raw_npz": "v"},
        files=files,
        settings={"a": [1, None]},
        metadata={"n": 3},
        seconds=1.5,
        peak_memory_mb=2.0,
    )


def published(store: Store) -> Manifest:
    staging = store.staging("thing", OUTPUTS, "f")
    work(staging)
    store.publish(staging, OUTPUTS)
    return manifest(store.hashes(OUTPUTS))


@pytest.mark.parametrize("name", ["../x", "results/../../x", "/etc/passwd", "results/../../{root}-twin/x"])
def test_path_outside_the_folder_is_rejected(store, name):
    with pytest.raises(PipelineError, match="leaves the project folder"):
        store.path(name.format(root=store.root.name))


def test_archive_may_be_a_link_to_elsewhere(store, tmp_path_factory):
    (store.root / "data").mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.npz"
    elsewhere.write_bytes(b"x")
    (store.root / "data/a.npz").symlink_to(elsewhere)
    assert store.path("data/a.npz").read_bytes() == b"x"


def test_path_through_a_link_that_leads_outside_is_rejected(store, tmp_path_factory):
    (store.root / "results").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(PipelineError, match=r"results is a link"):
        store.path("results/x")


def test_root_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VDM_ROOT", str(tmp_path / "a/.."))
    assert Store.from_environment().root == tmp_path.resolve()
    monkeypatch.delenv("VDM_ROOT")
    monkeypatch.chdir(make_project(tmp_path))
    assert Store.from_environment().root == tmp_path.resolve()


def test_publish_moves_every_output_and_leaves_no_staging(store):
    staging = store.staging("thing", OUTPUTS, "f")
    assert staging.is_relative_to(store.root / "results")
    work(staging)
    (staging / "scrap.txt").write_text("not an output")
    (store.root / "results/folder").mkdir()
    (store.root / "results/folder/stale.txt").write_text("old")
    store.publish(staging, OUTPUTS)
    files = sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*") if p.is_file())
    assert files == ["results/folder/deep/x.txt", "results/table.csv"]


def test_publish_with_an_output_missing_publishes_nothing(store):
    (store.root / "results").mkdir()
    (store.root / "results/table.csv").write_text("old")
    staging = store.staging("thing", OUTPUTS, "f")
    (staging / "table.csv").write_text("new")
    with pytest.raises(PipelineError, match="did not write results/folder"):
        store.publish(staging, OUTPUTS)
    assert (store.root / "results/table.csv").read_text() == "old"
    assert (staging / "table.csv").read_text() == "new"


def test_staging_survives_for_the_same_fingerprint_and_is_cleared_for_another(store):
    first = store.staging("thing", OUTPUTS, "f")
    (first / "checkpoint").write_text("half")
    other_asset = store.staging("other", ["results/o"], "f")
    (other_asset / "o").write_text("theirs")
    assert store.staging("thing", OUTPUTS, "f") == first
    assert (first / "checkpoint").read_text() == "half"
    second = store.staging("thing", OUTPUTS, "g")
    assert second != first
    assert not first.exists()
    assert list(second.iterdir()) == []
    assert (other_asset / "o").exists()


def test_hashes_are_those_of_the_bytes(store):
    record = published(store)
    expected = hashlib.sha256(b"new").hexdigest()
    assert record.files == {"results/table.csv": expected, "results/folder/deep/x.txt": expected}
    assert file_sha256(store.path("results/table.csv")) == expected


def test_intact_until_a_file_is_edited_or_deleted(store):
    record = published(store)
    assert store.is_intact(record)
    path = store.path("results/folder/deep/x.txt")
    path.write_text("nev")
    assert not store.is_intact(record)
    path.write_text("new")
    assert store.is_intact(record)
    path.unlink()
    assert not store.is_intact(record)


def test_manifest_round_trips_and_is_replaced(store):
    assert store.manifest("thing") is None
    record = manifest({"results/table.csv": "0"})
    store.write_manifest(record)
    assert store.manifest("thing") == record
    store.write_manifest(record.model_copy(update={"data_version": "e"}))
    assert store.manifest("thing").data_version == "e"
    assert [p.name for p in (store.root / "results/.manifests").iterdir()] == ["thing.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"asset": "thing"}', b"\xff\xfe\x00", b"null"])
def test_damaged_manifest_is_an_error(store, content):
    store.write_manifest(manifest({}))
    path = store.root / "results/.manifests/thing.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"thing\.json is damaged") as caught:
        store.manifest("thing")
    assert "\n" not in str(caught.value)


def test_data_version_depends_on_names_and_content_not_on_order():
    assert data_version({"a": "1", "b": "2"}) == data_version({"b": "2", "a": "1"})
    different = [{"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1"}, {"a": "1", "c": "2"}]
    assert len({data_version(hashes) for hashes in different}) == 4


def test_an_edit_that_keeps_size_and_time_stamp_is_seen(store, monkeypatch):
    """Also by a process that has read the file before, long after it was written."""
    monkeypatch.setattr(hashing, "RECENT_CHANGE_S", 0.0)
    record = published(store)
    path = store.path("results/table.csv")
    before = path.stat()
    assert store.is_intact(record)
    path.write_text("nev")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not store.is_intact(record)


def test_a_file_that_was_just_written_is_read_each_time(store):
    """Two writes may have one time stamp."""
    assert hashing.RECENT_CHANGE_S > 1
    record = published(store)
    assert store.is_intact(record)
    hashing._cached_sha256.cache_clear()
    assert store.is_intact(record)
    assert hashing._cached_sha256.cache_info().currsize == 0


def test_attempts_are_counted_until_the_work_succeeds(store):
    assert store.attempt("thing") is None
    store.start_attempt("thing", "one state")
    store.start_attempt("thing", "one state")
    assert store.attempt("thing") == Attempt(state="one state", times=2, failed=False)
    store.fail_attempt("thing", "one state")
    assert store.attempt("thing").failed
    store.start_attempt("thing", "another state")
    assert store.attempt("thing") == Attempt(state="another state", times=1, failed=False)
    store.clear_attempt("thing")
    assert store.attempt("thing") is None


@pytest.mark.parametrize("folder", ["results", "results/.manifests", "results/.staging"])
def test_a_link_in_place_of_an_owned_folder_is_rejected(store, tmp_path_factory, folder):
    link = store.root / folder
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    child = "results/.staging/x" if folder == "results/.staging" else "results/.manifests/x"
    with pytest.raises(PipelineError, match=f"{folder} is a link to"):
        store.owned_path(child)


def test_leftovers_beside_an_output_are_cleared_when_it_is_published(store):
    left = store.root / "results/.table.csv.0123abcd.part.csv"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    published(store)
    assert not left.exists()
