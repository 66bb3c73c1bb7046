"""Atomic writes: after a fault at any point the old content stands and nothing temporary is left."""

import os
import stat
from pathlib import Path

import pytest

from vdm_pipeline.io import atomic
from vdm_pipeline.io.atomic import atomic_file, replace_path, write_text


class Killed(BaseException):
    """Stands for a kill: no handler of ordinary exceptions sees it."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill(*args, **kwargs) -> None:
    raise Killed


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a/b/c.txt"
    write_text(path, "one")
    write_text(path, "zwei ä\n")
    assert path.read_bytes() == "zwei ä\n".encode()
    assert names(path.parent) == ["c.txt"]


@pytest.mark.parametrize(("umask", "mode", "of_folders"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)])
def test_permissions_are_those_of_the_umask(tmp_path, umask, mode, of_folders):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "folder/a.txt", "mine")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder/a.txt").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == of_folders


def test_temporary_file_is_a_hidden_sibling_with_the_same_suffix(tmp_path):
    with atomic_file(tmp_path / "x.safetensors") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".safetensors"
        temporary.write_text("x")
        assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("fault", [Killed, ValueError, KeyboardInterrupt])
def test_fault_while_writing_keeps_the_old_file(tmp_path, fault):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(fault), atomic_file(path) as temporary:
        temporary.write_text("ne")
        raise fault
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


def test_bytes_are_on_disk_before_the_name_points_at_them(tmp_path, monkeypatch):
    steps: list[str] = []
    for step in ("fsync", "replace"):
        real = getattr(os, step)
        monkeypatch.setattr(
            atomic.os, step, lambda *a, real=real, step=step: (steps.append(step), real(*a))[1]
        )
    write_text(tmp_path / "x.txt", "new")
    assert steps == ["fsync", "replace", "fsync"]


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / f"{text}.txt").write_text(text)
    return path


def test_folder_replaces_a_folder_whole(tmp_path):
    old, new = folder(tmp_path / "x", "old"), folder(tmp_path / "y", "new")
    replace_path(new, old)
    assert names(tmp_path) == ["x"]
    assert names(tmp_path / "x") == ["new.txt"]


def test_replace_makes_the_parent_and_moves_files_too(tmp_path):
    new = folder(tmp_path / "y", "new")
    replace_path(new, tmp_path / "a/b/x")
    assert names(tmp_path / "a/b/x") == ["new.txt"]
    (tmp_path / "f").write_text("1")
    (tmp_path / "g").write_text("2")
    replace_path(tmp_path / "g", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "2"
    assert names(tmp_path) == ["a", "f"]


def test_old_folder_is_put_back_when_the_new_one_cannot_be_moved(tmp_path):
    old = folder(tmp_path / "x", "old")
    with pytest.raises(FileNotFoundError):
        replace_path(tmp_path / "missing", old)
    assert names(tmp_path) == ["x"]
    assert (old / "old.txt").read_text() == "old"


def test_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path):
    elsewhere, new, path = tmp_path / "elsewhere", tmp_path / "new", tmp_path / "path"
    for folder in (elsewhere, new):
        folder.mkdir()
        (folder / "a").write_text(folder.name)
    path.symlink_to(elsewhere)
    replace_path(new, path)
    assert (path / "a").read_text() == "new" and not path.is_symlink()
    assert (elsewhere / "a").read_text() == "elsewhere"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "path"]
