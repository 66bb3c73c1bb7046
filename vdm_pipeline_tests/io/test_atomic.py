"""Atomic writes: after an error at any point the old content is there and no temporary file is left."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.io import atomic
from vdm_pipeline.io.atomic import atomic_file, replace_path, write_text


class Killed(BaseException):
    """Simulates a kill: handlers of ordinary exceptions do not catch it."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill(*args, **kwargs) -> None:
    raise Killed


def test_write_creates_folders_and_replaces(tmp_path):
    path = tmp_path / "a/b/c.txt"
    write_text(path, "one")
    write_text(path, "zwei ä\n")
    assert path.read_bytes() == "zwei ä\n".encode()
    assert names(path.parent) == ["c.txt"]


@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)]
)
def test_permissions_follow_the_umask(tmp_path, umask, file_mode, folder_mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "folder/a.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder/a.txt").stat().st_mode) == file_mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder_mode


def test_temporary_file_is_a_hidden_sibling_with_the_same_suffix(tmp_path):
    with atomic_file(tmp_path / "x.safetensors") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".safetensors"
        temporary.write_text("x")
        assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("error", [Killed, ValueError, KeyboardInterrupt])
def test_error_while_writing_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_kill_between_write_and_rename_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "x.txt"
    path.write_text("old")
    monkeypatch.setattr(atomic.os, step, kill)
    with pytest.raises(Killed):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_bytes_are_on_disk_before_the_rename(tmp_path, monkeypatch):
    steps: list[str] = []
    for step in ("fsync", "replace"):
        monkeypatch.setattr(atomic.os, step, recording(getattr(os, step), steps))
    write_text(tmp_path / "x.txt", "new")
    assert steps == ["fsync", "replace", "fsync"]


def recording(function: Callable, calls: list[str]) -> Callable:
    """The function, which also appends its name to ``calls``."""

    def recorded(*args):
        calls.append(function.__name__)
        return function(*args)

    return recorded


def folder_with(path: Path, text: str) -> Path:
    path.mkdir()
    (path / f"{text}.txt").write_text(text)
    return path


def test_folder_replaces_a_folder(tmp_path):
    old, new = folder_with(tmp_path / "x", "old"), folder_with(tmp_path / "y", "new")
    replace_path(new, old)
    assert names(tmp_path) == ["x"]
    assert names(tmp_path / "x") == ["new.txt"]


def test_replace_creates_the_parent_and_moves_files_too(tmp_path):
    new = folder_with(tmp_path / "y", "new")
    replace_path(new, tmp_path / "a/b/x")
    assert names(tmp_path / "a/b/x") == ["new.txt"]
    (tmp_path / "f").write_text("1")
    (tmp_path / "g").write_text("2")
    replace_path(tmp_path / "g", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "2"
    assert names(tmp_path) == ["a", "f"]


def test_old_folder_is_restored_if_the_new_one_cannot_be_moved(tmp_path):
    old = folder_with(tmp_path / "x", "old")
    with pytest.raises(FileNotFoundError):
        replace_path(tmp_path / "missing", old)
    assert names(tmp_path) == ["x"]
    assert (old / "old.txt").read_text() == "old"


def test_link_to_a_folder_is_replaced_and_its_target_kept(tmp_path):
    target, new, path = tmp_path / "target", tmp_path / "new", tmp_path / "path"
    for folder in (target, new):
        folder.mkdir()
        (folder / "a").write_text(folder.name)
    path.symlink_to(target)
    replace_path(new, path)
    assert (path / "a").read_text() == "new" and not path.is_symlink()
    assert (target / "a").read_text() == "target"
    assert names(tmp_path) == ["path", "target"]
