"""Folders in which Dagster's commands are started: one sentence, before Dagster writes anything."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vdm_pipeline.commands import set_environment
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental import instance_modules
from vdm_pipeline_tests.bad_inputs.case import Case, as_nobody, parametrize, snapshot
from vdm_pipeline_tests.paths import ROOT, make_project

LONGEST = 434
"""Bytes of the longest project folder: there, the path of a run's database has 512, SQLite's limit."""


def elsewhere(folder: Path) -> Path:
    return folder


def named(name: str, folder: Path) -> Path:
    (folder / name).mkdir()
    return make_project(folder / name)


def too_long(folder: Path) -> Path:
    while (missing := LONGEST + 10 - len(str(folder)) - 1) > 0:
        folder = folder / ("x" * (missing if missing < 150 else 100))
    folder.mkdir(parents=True)
    return make_project(folder)


def without_settings(folder: Path) -> Path:
    (make_project(folder) / "dagster.yaml").unlink()
    return folder


def link_instead_of_results(folder: Path) -> Path:
    (make_project(folder) / "results").symlink_to("/no/where")
    return folder


def settings(text: str) -> Callable[[Path], Path]:
    """A project whose dagster.yaml has this text at its end."""

    def make(folder: Path) -> Path:
        with (make_project(folder) / "dagster.yaml").open("a") as file:
            file.write(f"\n{text}\n")
        folder.chmod(0o777)
        return folder

    return make


def with_postgres(folder: Path) -> Path:
    shutil.copy(ROOT / "docker/dagster.yaml", make_project(folder))
    return folder


def read_only(folder: Path) -> Path:
    make_project(folder).chmod(0o555)
    return folder


def without_package(folder: Path) -> Path:
    (make_project(folder) / "vdm_pipeline").unlink()
    return folder


UNREADABLE = [
    Case(f"`{name}` that you may not read", name, make_project) for name in ("dagster.yaml", "workspace.yaml")
]
POSTGRES = Case("`dagster.yaml` with PostgreSQL, without the extra", "dagster_postgres", with_postgres)
CASES = [
    Case("`dagster` or `dg` in a folder that is not a project", "not a vdm_pipeline project", elsewhere),
    Case("project folder with `%20` in its path", "a%20b", lambda folder: named("a%20b", folder)),
    Case("project folder with `?` in its path", "a?b", lambda folder: named("a?b", folder)),
    Case("project folder with `[` in its path", "a[b]", lambda folder: named("a[b]", folder)),
    Case("project folder with a path that is too long", "path of the project folder", too_long),
    Case("project folder that you may not write to", "not writable", read_only),
    Case("project folder without its `dagster.yaml`", "dagster.yaml", without_settings),
    Case("`dagster.yaml` that is not YAML", "dagster.yaml", settings("storage: [")),
    POSTGRES,
    Case(
        "`dagster.yaml` with a module that is not installed",
        "my_launchers",
        settings("run_launcher: {module: my_launchers.cloud, class: Cloud}"),
    ),
    *UNREADABLE,
    Case("link instead of results/", "results", link_instead_of_results),
    Case("`dagster.yaml` with a date that does not exist", "dagster.yaml", settings("nux: 2026-13-01")),
    Case("`dg` in a project folder without the package", "vdm_pipeline", without_package),
    Case("`DAGSTER_HOME` that does not exist", "DAGSTER_HOME", make_project),
]


@pytest.fixture
def folder(open_folder: Path) -> Path:
    """A folder that another user can reach."""
    (open_folder / "folder").mkdir()
    return open_folder / "folder"


@parametrize(CASES)
def test_command_is_rejected_before_anything_is_written(case, folder, sentences, monkeypatch):
    working_directory = case.make(folder)
    environment = {"DAGSTER_HOME": "/no/where"} if case.field == "DAGSTER_HOME" else {}
    before, initial = snapshot(folder), dict(environment)
    monkeypatch.delenv("VDM_ROOT", raising=False)
    monkeypatch.chdir(working_directory)
    if case in UNREADABLE:
        (folder / case.field).chmod(0)
    if case is POSTGRES:
        monkeypatch.setattr(instance_modules, "_is_installed", lambda *given: False)
    with as_nobody(), pytest.raises(PipelineError) as caught:
        set_environment("dg", ["dev"], working_directory, environment)
    assert case.field in str(caught.value)
    sentences.check(case, str(caught.value), folder)
    if case in UNREADABLE:
        (folder / case.field).chmod(0o644)
    assert snapshot(folder) == before and environment == initial
    folder.chmod(0o755)
