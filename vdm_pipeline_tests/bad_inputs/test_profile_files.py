"""VDM_PROFILE: the name of a shipped profile or a readable TOML file, or one sentence."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.bad_inputs.case import Case, as_nobody, parametrize, snapshot
from vdm_pipeline_tests.bad_inputs.test_profiles import DEMO


def file(content: bytes) -> Callable[[Path], object]:
    """A file with this content."""
    return lambda path: path.write_bytes(content)


def sparse_file(path: Path) -> None:
    """8 GiB that take no space on disk."""
    with path.open("wb") as large:
        large.truncate(8 * 2**30)


FILES = [
    Case("profile in UTF-16", "mine.toml", file(DEMO.encode("utf-16"))),
    Case("profile in Latin-1", "mine.toml", file(DEMO.replace("demo (", "dému (").encode("latin-1"))),
    Case("empty profile", "'name'", file(b"")),
    Case(
        "the same key twice",
        "mine.toml",
        file(DEMO.replace("per_class = 200", "per_class = 200\nper_class = 3").encode()),
    ),
    Case("lists in lists, 20,000 deep", "mine.toml", file(b"x = " + b"[" * 20_000 + b"]" * 20_000)),
    Case("sections in sections, 5,000 deep", "mine.toml", file(b"[" + b".".join([b"a"] * 5000) + b"]")),
    Case("profile of 8 GiB", "mine.toml", sparse_file),
    Case("profile that is a folder", "VDM_PROFILE", Path.mkdir),
    Case("profile that is a pipe", "VDM_PROFILE", os.mkfifo),
    Case("profile that is a link to itself", "VDM_PROFILE", lambda path: path.symlink_to(path)),
    Case("profile that is a link to a device", "VDM_PROFILE", lambda path: path.symlink_to("/dev/zero")),
]
NAMES = [
    Case("`VDM_PROFILE` with a line break", "VDM_PROFILE", lambda: "a\nb"),
    Case("`VDM_PROFILE` with `../`", "VDM_PROFILE", lambda: "../profiles/demo"),
    Case("`VDM_PROFILE` that is a path without .toml", "VDM_PROFILE", lambda: "/etc/hostname"),
]
UNREADABLE = Case("profile that you may not read", "mine.toml", lambda path: path.chmod(0))
CASES = [*FILES, *NAMES, UNREADABLE]


def error_of(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """The error for a value of VDM_PROFILE."""
    monkeypatch.setenv("VDM_PROFILE", name)
    with pytest.raises(SettingsError) as caught:
        load_profile()
    return str(caught.value)


@parametrize(FILES)
def test_file_that_is_not_a_profile_is_rejected(case, tmp_path, monkeypatch, sentences):
    path = tmp_path / "mine.toml"
    case.make(path)
    before = path.lstat().st_mode, path.lstat().st_size
    sentences.check(case, error_of(monkeypatch, str(path)), tmp_path)
    assert (path.lstat().st_mode, path.lstat().st_size) == before
    assert list(tmp_path.iterdir()) == [path]


@parametrize(NAMES)
def test_name_that_is_not_a_profile_is_rejected(case, monkeypatch, sentences):
    sentences.check(case, error_of(monkeypatch, case.make()))


def test_file_without_permission_is_rejected(open_folder, monkeypatch, sentences):
    path = open_folder / "mine.toml"
    path.write_text(DEMO, encoding="utf-8")
    before = snapshot(open_folder)
    UNREADABLE.make(path)
    with as_nobody():
        sentences.check(UNREADABLE, error_of(monkeypatch, str(path)), open_folder)
    path.chmod(0o644)
    assert snapshot(open_folder) == before


def test_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + DEMO.encode())
    assert load_profile(str(path)) == load_profile("demo")
