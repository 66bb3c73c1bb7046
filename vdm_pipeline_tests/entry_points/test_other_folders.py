"""In a folder that is not a project, a command stops with one sentence; other projects are left alone."""

import importlib.metadata as metadata
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from vdm_pipeline import commands
from vdm_pipeline.commands import PROGRAMS, program_of, set_environment
from vdm_pipeline.errors import PipelineError
from vdm_pipeline_tests.bad_inputs.case import as_nobody
from vdm_pipeline_tests.entry_points.process import BIN, files, run
from vdm_pipeline_tests.paths import ROOT, make_project

HELP = ("dagster --help", "dagster --version", "dagster -v", "dg --version", "dg launch -h")
PTH = ROOT / "vdm_pipeline/commands.pth"
COMMANDS = [
    "dagster asset list",
    "dagster asset list -m vdm_pipeline.definitions",
    "dagster asset materialize --select generated_images",
    "dagster definitions validate",
    "dagster definitions validate -v",
    "dagster dev",
    "dagster dev -v",
    "dagster instance info",
    "dagster job execute -j relabel",
    "dagster run list",
    "dagster schedule list",
    "dagster sensor list",
    "dagster-daemon run",
    "dagster-graphql -t {__typename}",
    "dagster-webserver",
    "dg check defs",
    "dg dev",
    "dg launch --assets raw_npz",
    "dg list defs",
    "python -m dagster asset list",
    "python -W ignore -X utf8 -m dagster asset list",
    "python -umdagster asset list",
    f"python -W ignore {BIN}/dagster asset list",
]
OTHER_COMMANDS = [
    "dagster --help",
    "dagster --version",
    "dagster asset list --help",
    "dagster asset list -m other",
    "dagster definitions validate -f other.py",
    "dagster dev -h 127.0.0.1 -w elsewhere/workspace.yaml",
    "dagster project list-examples",
    "dagster-graphql --remote http://127.0.0.1:3000 -t {__typename}",
    "dagster-graphql -r http://127.0.0.1:3000 -t {__typename}",
    "dagster-webserver --grpc-port=4000",
    "dagster-webserver-debug run.gz",
    "dg launch --assets x -mother",
    "dg launch --target-path=elsewhere --assets x",
    "dg scaffold project x",
    "python -m pytest",
    "pytest dagster",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_folder_is_rejected_before_anything_is_written(command, tmp_path, home):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    code, output = run(command, folder, home)
    assert (code, output) == (2, f"Error: {folder} is not a vdm_pipeline project; cd to {ROOT}\n")
    assert files(folder) == files(home) == set()


def test_folder_inside_a_project_is_rejected_with_the_project(tmp_path, home):
    root = make_project(tmp_path)
    (root / "docs").mkdir()
    code, output = run("dg launch --assets raw_npz", root / "docs", home)
    assert (code, output) == (2, f"Error: {root}/docs is not a vdm_pipeline project; cd to {root}\n")


def variables(command: str, folder: Path, **initial: str) -> dict[str, str]:
    """Environment variables after `set_environment`."""
    environment = dict(initial)
    words = command.split()
    program, arguments = program_of(["python", *words], words)
    if program:
        set_environment(program, arguments, folder, environment)
    return environment


@pytest.mark.parametrize("command", [command for command in OTHER_COMMANDS if "--help" not in command])
def test_commands_for_other_projects_are_left_alone(command, tmp_path):
    if "--version" not in command:
        assert variables(f"bin/{command}", tmp_path) == {}


@pytest.mark.parametrize("command", HELP)
def test_help_is_printed_everywhere(command, tmp_path, home):
    code, output = run(command, tmp_path, home)
    assert code == 0 and "not a vdm_pipeline project" not in output


def test_help_is_printed_in_a_broken_project(tmp_path, home):
    (make_project(tmp_path) / "dagster.yaml").unlink()
    code, output = run("dagster dev --help", tmp_path, home)
    assert code == 0 and output.startswith("Usage: dagster dev")


@pytest.mark.parametrize("command", ["dagster dev", "dagster run list", "dg dev", "dg scaffold project x"])
def test_a_working_directory_that_was_deleted_is_one_sentence(command, tmp_path, home):
    (tmp_path / "gone").mkdir()
    script = ("sh", "-c", 'cd gone && rmdir ../gone && exec "$@"', "sh")
    code, output = run(command, tmp_path, home, prefix=script)
    assert (code, output) == (
        2,
        f"Error: The working directory: No such file or directory; cd to {ROOT}\n",
    )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("pyproject.toml", "bin/dagster dev"),
        ("workspace.yaml", "bin/dagster asset list -m vdm_pipeline.definitions"),
    ],
)
def test_files_of_others_above_the_folder_need_not_be_readable(name, command, open_folder):
    (open_folder / "folder").mkdir()
    (open_folder / name).touch(0)
    with as_nobody(), pytest.raises(PipelineError, match=f"is not a vdm_pipeline project; cd to {ROOT}"):
        variables(command, open_folder / "folder")


def test_any_error_of_the_disk_is_one_sentence(open_folder, monkeypatch, capsys):
    """Here, ``VDM_ROOT`` is in a folder that the user may not enter."""
    (open_folder / "closed").mkdir(0)
    monkeypatch.chdir(make_project(open_folder))
    monkeypatch.setenv("VDM_ROOT", str(open_folder / "closed/root"))
    monkeypatch.setattr(sys, "orig_argv", ["python", "bin/dagster", "dev"])
    monkeypatch.setattr(sys, "argv", ["bin/dagster", "dev"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(commands, "_disable_telemetry", lambda environment: None)
    with as_nobody(), pytest.raises(SystemExit, match="2"):
        commands.prepare()
    hint = "Permission denied; make it readable, or move it away."
    assert capsys.readouterr().err == f"Error: {open_folder}/closed/root: {hint}\n"


@pytest.mark.parametrize("name", ["dagster.yaml", "dg.toml", "pyproject.toml", "workspace.yaml"])
def test_folder_of_another_project_is_left_alone(name, tmp_path):
    (tmp_path / name).write_text('[tool.dagster]\nmodule_name = "other"\n')
    (tmp_path / "inner").mkdir()
    for folder in (tmp_path, tmp_path / "inner"):
        assert variables("bin/dagster dev", folder) == {}
    with pytest.raises(PipelineError, match="is not a vdm_pipeline project"):
        variables("bin/dagster asset list -m vdm_pipeline.definitions", tmp_path)


def test_own_instance_may_be_read_from_anywhere(tmp_path):
    home = {"DAGSTER_HOME": str(tmp_path)}
    assert variables("bin/dagster instance info", tmp_path, **home) == home
    with pytest.raises(PipelineError, match="is not a vdm_pipeline project"):
        variables("bin/dagster asset list", tmp_path, **home)


def test_another_dg_project_may_be_named(tmp_path):
    root = make_project(tmp_path)
    with pytest.raises(PipelineError, match="cd to "):
        variables(f"bin/dg launch --target-path {root} --assets x", tmp_path.parent)


@pytest.mark.parametrize("command", ["check defs", "check yaml", "dev -p 1", "scaffold defs dagster.asset x"])
def test_dg_needs_the_package_in_the_project_folder(command, tmp_path, monkeypatch):
    (make_project(tmp_path) / "vdm_pipeline").unlink()
    monkeypatch.chdir(tmp_path)
    for other in ("check toml", "launch --assets x", "list defs"):
        assert variables(f"bin/dg {other}", tmp_path) == {"DAGSTER_HOME": str(tmp_path)}
    with pytest.raises(PipelineError, match=f"run: ln -s {ROOT}/vdm_pipeline {tmp_path}$"):
        variables(f"bin/dg {command}", tmp_path)


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("dagster asset list", "vdm_pipeline.definitions"),
        ("dagster job execute -j relabel", "vdm_pipeline.definitions"),
        ("dagster asset list -f other.py", None),
        ("dagster dev", None),
        ("dg launch --assets x", None),
    ],
)
@pytest.mark.parametrize("exported", [{}, {"DAGSTER_MODULE_NAME": "vdm_pipeline.definitions"}])
def test_module_is_set_only_where_nothing_else_names_it(command, module, exported, tmp_path, monkeypatch):
    """`dagster dev` waits for ever if the variable is set."""
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    found = variables(f"bin/{command}", root, **exported)
    assert found.get("DAGSTER_MODULE_NAME") == module
    assert found["DAGSTER_HOME"] == str(root)


def test_what_the_user_set_is_kept(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    own = {"DAGSTER_HOME": str(tmp_path.parent), "DAGSTER_MODULE_NAME": "other"}
    for command in ("dagster asset list", "dagster dev", "dg dev"):
        assert variables(f"bin/{command}", root, **own) == own


@pytest.mark.parametrize("home", ["relative", "/no/where", "~nobody_of_this_name", __file__])
def test_home_that_is_not_a_folder_is_rejected(home, tmp_path, monkeypatch):
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError, match=f"^DAGSTER_HOME is '{home}', which is not the absolute path"):
        variables("bin/dg dev", root, DAGSTER_HOME=home)


@pytest.mark.parametrize(
    ("process", "argv", "program"),
    [
        ("python /x/bin/dagster dev", "/x/bin/dagster dev", "dagster"),
        ("python3 -u -B bin/dg dev", "bin/dg dev", "dg"),
        ("python -W ignore -X dev bin/dagster-graphql", "bin/dagster-graphql", "dagster-graphql"),
        ("python -m dagster api grpc", "-m api grpc", "dagster"),
        ("python -Xdev -W ignore -m dagster_webserver", "-m", "dagster-webserver"),
        ("python -Bum dagster._daemon run", "-m run", "dagster-daemon"),
        ("python -umdagster_dg_cli.cli list defs", "-m list defs", "dg"),
        ("python -m pytest dagster", "-m dagster", ""),
        ("python bin/pip install dagster", "bin/pip install dagster", ""),
        ("python dagster/x.py", "dagster/x.py", ""),
        ("python -c import_dagster dagster", "-c dagster", ""),
        ("python - dagster", "- dagster", ""),
    ],
)
def test_only_the_programs_of_dagster_are_prepared(process, argv, program):
    assert program_of(process.split(), argv.split()) == (program, argv.split()[1:])
    if program:
        assert imported_by_pth(process.split(), argv.split()) == ["vdm_pipeline.commands"]


def test_an_interactive_python_is_not_prepared():
    assert program_of(["python"], [""]) == ("", [])


def test_each_program_that_dagster_installs_is_prepared():
    scripts = metadata.entry_points(group="console_scripts")
    installed = {script.name for script in scripts if script.dist.name.startswith("dagster")}
    assert installed - {"dagster-cloud", "dagster-plus"} == set(PROGRAMS)  # these two record nothing
    for name in PROGRAMS:
        assert imported_by_pth(["python", name], [name]) and imported_by_pth(["python", f"x/{name}"], [name])


def imported_by_pth(orig_argv: list[str], argv: list[str]) -> list[str]:
    """Our modules that the line of the .pth file imports; `prepare` is not called."""
    imported: list[str] = []
    (line,) = PTH.read_text().splitlines()
    module, system = MagicMock(), SimpleNamespace(orig_argv=orig_argv, argv=argv)

    def load(name: str, *rest):
        if name == "sys":
            return system
        imported.append(name)
        return module

    exec(line, {"__builtins__": {"__import__": load, "any": any, "len": len}})
    assert module.commands.prepare.called == bool(imported)
    return imported


@pytest.mark.parametrize("command", ["-c pass", "-m pass", "bin/pip install dagster", ""])
def test_other_programs_load_nothing(command):
    """What every Python process of the environment executes. It costs about a microsecond."""
    argv = command.split(" ")
    assert imported_by_pth(["python", *command.split()], argv) == []
    assert imported_by_pth([], [""]) == imported_by_pth([], []) == []  # Python in another program
