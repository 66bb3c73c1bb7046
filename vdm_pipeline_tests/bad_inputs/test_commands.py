"""The commands: one sentence on stderr, an exit code other than 0, and nothing written."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from vdm_pipeline_tests.bad_inputs.case import Case, parametrize, snapshot
from vdm_pipeline_tests.paths import make_project
from vdm_pipeline_tests.profiles import write_profile

DAGSTER = str(Path(sys.executable).with_name("dagster"))
MATERIALIZE = [DAGSTER, "asset", "materialize", "--select"]
DIGEST = [sys.executable, "-m", "vdm_pipeline.stages.models"]


class Command(NamedTuple):
    """Arguments of a process, its environment variables, and how the line of its error begins."""

    arguments: list[str]
    environment: dict[str, str]
    error: str


def bad_archive(root: Path) -> Command:
    """Materialize an error page that has the name of an archive."""
    (root / "data/pneumoniamnist.npz").write_bytes(b"<html>404</html>")
    return Command([*MATERIALIZE, "raw_npz"], {"VDM_PROFILE": "pneumoniamnist"}, "raw_npz failed: ")


def digest(*arguments: str) -> Command:
    """Print the digest of a model folder."""
    return Command([*DIGEST, *arguments], {}, "")


MATPLOTLIBRC = Case(
    "`matplotlibrc` that cannot be read",
    "matplotlibrc",
    lambda folder: (folder / "matplotlibrc").write_bytes(b"\xff\xfe"),
)
COMMANDS = [
    Case("`dagster asset materialize` with a bad archive", "pneumoniamnist.npz", bad_archive),
    Case(
        "`dagster asset materialize` of an asset with inputs that were never materialized",
        "Asset labeled_dataset",
        lambda root: Command([*MATERIALIZE, "label_metrics"], {}, "label_metrics failed: "),
    ),
    Case(
        "`VDM_FORCE` with an unknown asset",
        "VDM_FORCE",
        lambda root: Command([*MATERIALIZE, "raw_npz"], {"VDM_FORCE": "lora_weight"}, "Error: "),
    ),
    Case(
        "`VDM_EXECUTOR` with an unknown executor",
        "VDM_EXECUTOR",
        lambda root: Command([*MATERIALIZE, "raw_npz"], {"VDM_EXECUTOR": "celery"}, "Error: "),
    ),
    Case(
        "`PYTHONOPTIMIZE=2`",
        "PYTHONOPTIMIZE",
        lambda root: Command([*MATERIALIZE, "raw_npz"], {"PYTHONOPTIMIZE": "2"}, "Error: "),
    ),
    Case(
        "`VDM_LOG` with an unknown level",
        "VDM_LOG",
        lambda root: Command([*MATERIALIZE, "raw_npz"], {"VDM_LOG": "loud"}, "Error: "),
    ),
    Case(
        "`python -m vdm_pipeline.stages.models` with a folder that does not exist",
        "'/no/where'",
        lambda root: digest("/no/where"),
    ),
    Case(
        "`python -m vdm_pipeline.stages.models` with a file",
        "pyproject.toml'",
        lambda root: digest(str(root / "pyproject.toml")),
    ),
    Case("`python -m vdm_pipeline.stages.models` without arguments", "0 arguments", lambda root: digest()),
]


CASES = [*COMMANDS, MATPLOTLIBRC]


@parametrize(COMMANDS)
def test_command_prints_the_error_and_fails(case, project, tmp_path_factory, sentences):
    command = case.make(project)
    before = snapshot(project)
    result = subprocess.run(
        command.arguments,
        capture_output=True,
        text=True,
        cwd=make_project(tmp_path_factory.mktemp("home")),
        timeout=120,
        env={**os.environ, "VDM_PROFILE": "demo", "VDM_ROOT": str(project), **command.environment},
    )
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if case.field in line and command.error in line]
    assert lines, result.stderr
    sentences.check(case, lines[0][lines[0].index(command.error) :].strip(), project)
    assert snapshot(project) == before


def test_unreadable_matplotlibrc_fails_the_asset(copied_folder, tmp_path_factory, sentences):
    profile, root = copied_folder
    folder = make_project(tmp_path_factory.mktemp("home"))
    write_profile(folder / "small.toml", profile)
    MATPLOTLIBRC.make(folder)
    before = snapshot(root)
    result = subprocess.run(
        [*MATERIALIZE, "label_metrics"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env={**os.environ, "VDM_PROFILE": "small.toml", "VDM_ROOT": str(root), "VDM_FORCE": "label_metrics"},
    )
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("label_metrics failed: ")]
    assert lines, result.stderr
    sentences.check(MATPLOTLIBRC, lines[0], root, folder)
    assert {name: content for name, content in snapshot(root).items() if "/.staging" not in name} == before
