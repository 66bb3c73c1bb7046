"""A verified folder is intact only if every file has its recorded hash."""

import json
from pathlib import Path

import pytest

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.stages.models.verified_folder import VerifiedFolder


@pytest.fixture(params=[None, "files"], ids=["hashes only", "hashes under a key"])
def folder(request, tmp_path) -> VerifiedFolder:
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights.safetensors").write_bytes(bytes(10))
    (path / "config.json").write_text("{}")
    return VerifiedFolder(path, ".record.json", request.param)


def hashes(path: Path) -> dict[str, str]:
    return {name: file_sha256(path / name) for name in ("config.json", "weights.safetensors")}


def test_layout_of_the_record(folder):
    folder.write_record({"weights": {"a": "b"}})
    record = json.loads((folder.path / ".record.json").read_text())
    if folder.hashes_key:
        assert record == {"weights": {"a": "b"}, "files": hashes(folder.path)}
    else:
        assert record == hashes(folder.path)


def test_recorded_files_are_intact(folder):
    assert not folder.is_intact()
    folder.write_record()
    assert folder.is_intact()


@pytest.mark.parametrize("change", ["another byte", "removed", "added"])
def test_changed_files_are_not_intact(folder, change):
    folder.write_record()
    if change == "another byte":
        (folder.path / "weights.safetensors").write_bytes(bytes(9) + b"\1")
    elif change == "removed":
        (folder.path / "config.json").unlink()
    else:
        (folder.path / "more.json").write_text("{}")
    assert not folder.is_intact()


def test_required_hashes_must_be_recorded(folder):
    folder.write_record()
    sha256 = file_sha256(folder.path / "weights.safetensors")
    assert folder.is_intact({"weights.safetensors": sha256})
    assert not folder.is_intact({"weights.safetensors": "0" * 64})
    assert not folder.is_intact({"other.safetensors": sha256})


@pytest.mark.parametrize("record", ["", "[]", "{}", "null", '{"files": []}'])
def test_a_damaged_record_is_not_intact(folder, record):
    (folder.path / ".record.json").write_text(record)
    assert not folder.is_intact()
