"""What VDM_PROFILE names: a file that can be read as a profile, or a sentence."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.errors import SettingsError
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.bad_inputs.case import Case, as_nobody, check, each, snapshot
from vdm_pipeline_tests.bad_inputs.test_profiles import DEMO

UNKNOWN = "which is neither a shipped profile (demo, pneumoniamnist, sd15) nor a .toml file that exists."


def file(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


def sparse(path: Path) -> None:
    """As large as one likes, and nothing on disk."""
    with path.open("wb") as large:
        large.truncate(8 * 2**30)


FILES = [
    Case(
        "profile saved as UTF-16",
        "…mine.toml is no valid TOML: byte 0 is not UTF-8; save it as UTF-8.",
        file(DEMO.encode("utf-16")),
    ),
    Case(
        "profile saved as Latin-1",
        "…mine.toml is no valid TOML: byte 113 is not UTF-8; save it as UTF-8.",
        file(DEMO.replace("demo (", "dému (").encode("latin-1")),
    ),
    Case("empty profile", "…mine.toml: 'name' is missing (6 more).", file(b"")),
    Case(
        "the same key twice",
        "…mine.toml is no valid TOML: Cannot overwrite a value (at line …, column …).",
        file(DEMO.replace("per_class = 200", "per_class = 200\nper_class = 3").encode()),
    ),
    Case(
        "lists in lists, 20,000 deep",
        "…mine.toml is nested too deeply; a profile has sections, keys and lists alone.",
        file(b"x = " + b"[" * 20_000 + b"]" * 20_000),
    ),
    Case(
        "sections in sections, 5,000 deep",
        "…mine.toml is nested too deeply; a profile has sections, keys and lists alone.",
        file(b"[" + b".".join([b"a"] * 5000) + b"]"),
    ),
    Case(
        "profile of 8 GiB",
        "…mine.toml is longer than 1048576 bytes, so it is no profile; name another file.",
        sparse,
    ),
    Case("profile that is a folder", f"VDM_PROFILE is '…mine.toml', {UNKNOWN}", Path.mkdir),
    Case("profile that is a pipe", f"VDM_PROFILE is '…mine.toml', {UNKNOWN}", os.mkfifo),
    Case(
        "profile that is a link to itself",
        f"VDM_PROFILE is '…mine.toml', {UNKNOWN}",
        lambda path: path.symlink_to(path),
    ),
    Case(
        "profile that is a link to a device",
        f"VDM_PROFILE is '…mine.toml', {UNKNOWN}",
        lambda path: path.symlink_to("/dev/zero"),
    ),
]
NAMES = [
    Case("`VDM_PROFILE` with a line break", rf"VDM_PROFILE is 'a\nb', {UNKNOWN}", lambda: "a\nb"),
    Case(
        "`VDM_PROFILE` that climbs to a shipped profile",
        f"VDM_PROFILE is '../profiles/demo', {UNKNOWN}",
        lambda: "../profiles/demo",
    ),
    Case(
        "`VDM_PROFILE` that is a path without .toml",
        f"VDM_PROFILE is '/etc/hostname', {UNKNOWN}",
        lambda: "/etc/hostname",
    ),
]
UNREADABLE = Case(
    "profile without permission to read",
    "…mine.toml cannot be read (Permission denied); correct its permissions.",
    lambda path: path.chmod(0),
)
CASES = [*FILES, *NAMES, UNREADABLE]


def refusal(monkeypatch: pytest.MonkeyPatch, named: str) -> str:
    monkeypatch.setenv("VDM_PROFILE", named)
    with pytest.raises(SettingsError) as caught:
        load_profile()
    return str(caught.value)


@each(FILES)
def test_a_file_that_is_no_profile_is_a_sentence(case, tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    case.make(path)
    kinds = path.lstat().st_mode, path.lstat().st_size
    check(case, refusal(monkeypatch, str(path)))
    assert (path.lstat().st_mode, path.lstat().st_size) == kinds
    assert list(tmp_path.iterdir()) == [path]


@each(NAMES)
def test_a_name_that_is_no_profile_is_a_sentence(case, monkeypatch):
    check(case, refusal(monkeypatch, case.make()))


def test_a_file_without_permission_is_a_sentence(open_folder, monkeypatch):
    path = open_folder / "mine.toml"
    path.write_text(DEMO, encoding="utf-8")
    before = snapshot(open_folder)
    UNREADABLE.make(path)
    with as_nobody():
        check(UNREADABLE, refusal(monkeypatch, str(path)))
    path.chmod(0o644)
    assert snapshot(open_folder) == before


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + DEMO.encode())
    assert load_profile(str(path)) == load_profile("demo")
