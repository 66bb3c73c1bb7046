"""Lets Dagster's commands work in a project folder with nothing exported, and rejects them elsewhere.

`commands.pth`, installed as site-packages/vdm_pipeline.pth, calls `prepare` at the start of each process of
`dagster`, `dg`, `dagster-webserver` and `dagster-daemon`. Without it, `dagster asset` would find no
definitions, as it reads neither pyproject.toml nor workspace.yaml; and only the dagster.yaml in
``DAGSTER_HOME`` disables all telemetry.
"""

import os
import re
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.instance_modules import check_instance_modules
from vdm_pipeline.incremental.project_folder import MODULE, check_instance_folder, is_project, not_a_project
from vdm_pipeline.incremental.store import Store

PROGRAMS = ("dagster", "dg", "dagster-webserver", "dagster-daemon")
SERVICES = ("dagster-webserver", "dagster-daemon")
PROGRAM_OF_MODULE = {"dagster_webserver": "dagster-webserver", "dagster._daemon": "dagster-daemon"}
FLAG_COMMANDS = (["asset"], ["code-server", "start"], ["job", "execute"])
"""Commands of `dagster` that look for definitions only in their flags and ``DAGSTER_MODULE_NAME``."""
DAGSTER_COMMANDS = {"asset", "code-server", "definitions", "dev", "job", "schedule", "sensor"}
DG_COMMANDS = {"check", "dev", "launch", "list"}
"""Commands that need definitions; others, such as `dg scaffold`, work in any folder."""
INSTANCE_COMMANDS = {"debug", "instance", "run"}
"""Commands of `dagster` that need an instance, but no definitions."""
RECORDERS = (
    "get_or_set_instance_id",
    "get_or_set_user_id",
    "log_telemetry_action",
    "write_telemetry_log_line",
)
"""The functions of ``dagster_shared.telemetry`` that write files."""
TARGET_VARIABLES = ("DAGSTER_MODULE_NAME", "DAGSTER_PACKAGE_NAME", "DAGSTER_PYTHON_FILE")


def prepare() -> None:
    """Set what Dagster's program lacks in this project folder, or end the process with one sentence."""
    program, arguments = program_of(sys.orig_argv)
    if not program or _only_prints_help(program, arguments):
        return
    try:
        set_environment(program, arguments, Path.cwd(), os.environ)
    except PipelineError as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        os._exit(2)  # so early, Python reports SystemExit as a crash of its own


def program_of(command: Sequence[str]) -> tuple[str, list[str]]:
    """Which of `PROGRAMS` a Python process runs, or an empty name; and the program's arguments."""
    rest = list(command[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-m":  # options of Python, such as -u
        rest.pop(0)
    as_module = rest[:1] == ["-m"]
    rest = rest[as_module:]
    if not rest:
        return "", []
    name = PROGRAM_OF_MODULE.get(rest[0], rest[0]) if as_module else Path(rest[0]).name
    return name if name in PROGRAMS else "", rest[1:]


def _only_prints_help(program: str, arguments: Sequence[str]) -> bool:
    if not arguments:
        return program not in SERVICES
    return not {"--help", "--version"}.isdisjoint(arguments) or arguments[-1] in ("-h", "-v")


def set_environment(
    program: str, arguments: Sequence[str], folder: Path, environment: MutableMapping[str, str]
) -> None:
    """Set ``DAGSTER_HOME`` unless the user did, the module where it is needed, and disable telemetry.

    Raises `PipelineError` if the working directory is not a project, unless the command needs none, or names
    another one; for a project folder that cannot hold Dagster's database; and for a dagster.yaml that needs a
    module that is not installed.
    """
    options = _options(arguments)
    if not is_project(folder):
        if _needs_project(program, options, folder, environment):
            raise not_a_project(folder)
        return
    Store.from_environment()
    if environment.get("DAGSTER_HOME", "") in ("", str(folder)):
        check_instance_folder(folder)
        check_instance_modules(folder)
        environment["DAGSTER_HOME"] = str(folder)
    else:
        check_instance_modules(_own_home(environment["DAGSTER_HOME"]))
        _disable_telemetry()
    environment["DAGSTER_DISABLE_TELEMETRY"] = "1"  # makes no folders of statistics to send
    needs_module = program == "dagster" and any(
        [*arguments][: len(words)] == words for words in FLAG_COMMANDS
    )
    if needs_module and not options.target:
        environment.setdefault("DAGSTER_MODULE_NAME", MODULE)
    elif environment.get("DAGSTER_MODULE_NAME") == MODULE:
        del environment["DAGSTER_MODULE_NAME"]  # with it, `dagster dev` waits for ever
    warnings.filterwarnings("ignore", "Function `.*` is superseded")  # by `dg`: both work


def _options(arguments: Sequence[str]) -> Namespace:
    """The command, the definitions that the user names, and the folder of ``dg --target-path``."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for flags in ("-f --python-file", "-m --module-name", "-w --workspace", "--package-name"):
        parser.add_argument(*flags.split(), dest="target", action="append", nargs="?")
    for flag in ("--autoload-defs-module-name", "--grpc-host", "--grpc-port", "--grpc-socket"):
        parser.add_argument(flag, dest="target", action="append", nargs="?")
    parser.add_argument("--target-path", type=Path, nargs="?")
    options, rest = parser.parse_known_args(list(arguments))
    options.command = next((word for word in rest if not word.startswith("-")), "")
    return options


def _needs_project(
    program: str, options: Namespace, folder: Path, environment: MutableMapping[str, str]
) -> bool:
    """Whether the command needs definitions or an instance, and was not given those of another project."""
    if options.target_path and is_project(options.target_path.resolve()):
        return True  # the assets would be written to the working directory
    named = {*(options.target or ()), *filter(None, map(environment.get, TARGET_VARIABLES))}
    if MODULE in named:
        return True
    if named or options.target_path or _is_in_another_project(folder):
        return False
    commands = {"dagster": DAGSTER_COMMANDS, "dg": DG_COMMANDS}
    if options.command in commands.get(program, ()):
        return True
    needs_instance = program in SERVICES or (program == "dagster" and options.command in INSTANCE_COMMANDS)
    return needs_instance and not environment.get("DAGSTER_HOME")


def _is_in_another_project(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it with settings of Dagster, is another project."""
    for place in (folder, *folder.parents):
        if is_project(place):
            return False
        pyproject = place / "pyproject.toml"
        text = pyproject.read_text("utf-8", "replace") if os.path.isfile(pyproject) else ""
        settings = [place / name for name in ("dagster.yaml", "dg.toml", "workspace.yaml")]
        if re.search(r"^\[tool\.(dagster|dg)\b", text, re.M) or any(map(os.path.isfile, settings)):
            return True
    return False


def _own_home(home: str) -> Path:
    """The user's own instance folder."""
    path = Path(home).expanduser()
    if not path.is_absolute() or not path.is_dir():
        raise PipelineError(
            f"DAGSTER_HOME is {home!r}, which is not the absolute path of a folder; create it, or unset it."
        )
    return path


def _disable_telemetry() -> None:
    """Leave no statistics, whatever the dagster.yaml of the user's own ``DAGSTER_HOME`` says."""
    from dagster_shared import telemetry

    for name in RECORDERS:
        setattr(telemetry, name, lambda *args, **kwargs: "")
