"""In a folder that is not a project, a command stops with one sentence; other projects are left alone."""

import os
from pathlib import Path

import pytest

from vdm_pipeline.commands import program_of, set_environment
from vdm_pipeline.errors import PipelineError
from vdm_pipeline_tests.entry_points.process import files, run
from vdm_pipeline_tests.paths import ROOT, make_project

PTH = ROOT / "vdm_pipeline/commands.pth"
COMMANDS = [
    "dagster asset list",
    "dagster asset list -m vdm_pipeline.definitions",
    "dagster asset materialize --select generated_images",
    "dagster definitions validate",
    "dagster dev",
    "dagster instance info",
    "dagster job execute -j relabel",
    "dagster run list",
    "dagster schedule list",
    "dagster sensor list",
    "dagster-daemon run",
    "dagster-webserver",
    "dg check defs",
    "dg dev",
    "dg launch --assets raw_npz",
    "dg list defs",
    "python -m dagster asset list",
]
OTHER_COMMANDS = [
    "dagster --help",
    "dagster --version",
    "dagster asset list --help",
    "dagster asset list -m other",
    "dagster definitions validate -f other.py",
    "dagster dev -h 127.0.0.1 -w elsewhere/workspace.yaml",
    "dagster project list-examples",
    "dagster-webserver --grpc-port=4000",
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
    program, arguments = program_of(["python", *command.split()])
    if program:
        set_environment(program, arguments, folder, environment)
    return environment


@pytest.mark.parametrize("command", [command for command in OTHER_COMMANDS if "--help" not in command])
def test_commands_for_other_projects_are_left_alone(command, tmp_path):
    if "--version" not in command:
        assert variables(f"bin/{command}", tmp_path) == {}


@pytest.mark.parametrize("command", ["dagster --help", "dagster --version", "dg --version", "dg launch -h"])
def test_help_is_printed_everywhere(command, tmp_path, home):
    code, output = run(command, tmp_path, home)
    assert code == 0 and "not a vdm_pipeline project" not in output


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
        assert variables(f"bin/{command}", root, **own) == own | {"DAGSTER_DISABLE_TELEMETRY": "1"}


@pytest.mark.parametrize("home", ["relative", "/no/where", __file__])
def test_home_that_is_not_a_folder_is_rejected(home, tmp_path, monkeypatch):
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError, match=f"^DAGSTER_HOME is '{home}', which is not the absolute path"):
        variables("bin/dg dev", root, DAGSTER_HOME=home)


@pytest.mark.parametrize(
    ("process", "program"),
    [
        (["python", "/x/bin/dagster", "dev"], "dagster"),
        (["python3", "-u", "-B", "bin/dg", "dev"], "dg"),
        (["python", "-m", "dagster", "api", "grpc"], "dagster"),
        (["python", "-m", "dagster_webserver"], "dagster-webserver"),
        (["python", "-m", "dagster._daemon", "run"], "dagster-daemon"),
        (["python", "-m", "pytest", "dagster"], ""),
        (["python", "bin/pip", "install", "dagster"], ""),
        (["python", "dagster/x.py"], ""),
        (["python", "-c", "import dagster"], ""),
        (["python"], ""),
        (["python", "-m"], ""),
    ],
)
def test_only_the_programs_of_dagster_are_prepared(process, program):
    assert program_of(process)[0] == program


@pytest.mark.parametrize("command", ["-c pass", "-m timeit -n1 pass", "bin/pip install dagster", ""])
def test_other_programs_load_nothing(command):
    """What every Python process of the environment executes. It costs about a microsecond."""
    imported: list[str] = []
    (line,) = PTH.read_text().splitlines()
    builtins = {"__import__": lambda name, *rest: imported.append(name) or __import__(name), "any": any}
    system = __import__("sys")
    before, system.orig_argv = system.orig_argv, ["python", *command.split()]
    try:
        exec(line, {"__builtins__": builtins})
    finally:
        system.orig_argv = before
    assert imported == ["sys"]


def test_the_line_is_installed_beside_the_package():
    from importlib.metadata import files as installed_files

    (path,) = [path for path in installed_files("vdm_pipeline") or () if path.name == "vdm_pipeline.pth"]
    assert path.locate().read_text() == PTH.read_text()
    assert os.fspath(path) == "vdm_pipeline.pth", "it must be in site-packages itself"
