"""Lets Dagster's commands work in a project folder with nothing exported, and rejects them elsewhere.

`commands.pth`, installed as site-packages/vdm_pipeline.pth, calls `prepare` at the start of each process of
`dagster`, `dg` and Dagster's other programs. Without it, `dagster asset` would find no definitions, as it
reads neither pyproject.toml nor workspace.yaml; and only the dagster.yaml in ``DAGSTER_HOME`` disables all
telemetry.
"""

import os
import re
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.instance_modules import check_instance_modules
from vdm_pipeline.incremental.project_folder import (
    MODULE,
    check_instance_folder,
    check_package_folder,
    is_project,
    is_readable_project,
    not_a_project,
    translate_read_errors,
    working_directory,
)
from vdm_pipeline.incremental.store import Store

SERVICES = ("dagster-daemon", "dagster-graphql", "dagster-webserver")
"""Programs that need an instance and definitions, whatever their arguments."""
PROGRAMS = ("dagster", "dagster-webserver-debug", "dg", *SERVICES)
PROGRAM_OF_MODULE = {
    "dagster._daemon": "dagster-daemon",
    "dagster_dg_cli.cli": "dg",
    "dagster_webserver": "dagster-webserver",
}
FLAG_COMMANDS = (["asset"], ["code-server", "start"], ["job", "execute"])
"""Commands of `dagster` that look for definitions only in their flags and ``DAGSTER_MODULE_NAME``."""
DAGSTER_COMMANDS = {"asset", "code-server", "definitions", "dev", "job", "schedule", "sensor"}
DG_COMMANDS = {"check", "dev", "launch", "list"}
"""Commands that need definitions; others, such as `dg scaffold`, work in any folder."""
PACKAGE_COMMANDS = (["check", "defs"], ["check", "yaml"], ["dev"], ["scaffold", "defs"])
"""Commands of `dg` that look for the package's files in the project folder."""
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
    program, arguments = program_of(sys.orig_argv, sys.argv)
    if not program:
        return
    _disable_telemetry(os.environ)
    try:
        folder = working_directory()
        with translate_read_errors(folder):
            set_environment(program, arguments, folder, os.environ)
    except PipelineError as error:
        if not _only_prints_help(program, arguments):
            print(f"Error: {error}", file=sys.stderr, flush=True)
            os._exit(2)  # so early, Python reports SystemExit as a crash of its own


def program_of(command: Sequence[str], argv: Sequence[str]) -> tuple[str, list[str]]:
    """Which of `PROGRAMS` a Python process runs, or an empty name; and the program's arguments.

    ``command`` is ``sys.orig_argv``, with Python's own options, such as ``-W ignore``. ``argv`` is
    ``sys.argv``; so early, it begins with ``-m`` instead of the module.
    """
    script_or_module = command[-len(argv)]
    if argv[0] == "-m":
        module = re.sub(r"^-\w*?m", "", script_or_module)  # python -mdagster
        name = PROGRAM_OF_MODULE.get(module, module)
    else:
        name = Path(script_or_module).name
    return name if name in PROGRAMS else "", list(argv[1:])


def _only_prints_help(program: str, arguments: Sequence[str]) -> bool:
    """Only a guess: `dagster dev -h localhost -v` sets a host, and is verbose."""
    if not arguments:
        return program not in SERVICES
    named = not {"--help", "--version"}.isdisjoint(arguments)
    return named or list(arguments) == ["-v"] or arguments[-1] == "-h"


def set_environment(
    program: str, arguments: Sequence[str], folder: Path, environment: MutableMapping[str, str]
) -> None:
    """Set ``DAGSTER_HOME`` unless the user did, and the module where it is needed.

    Raises `PipelineError` if the working directory is not a project, unless the command needs none, or names
    another one; for a project folder that cannot hold Dagster's database, or lacks the package for `dg`; and
    for a dagster.yaml that needs a module that is not installed.
    """
    options = _options(program, arguments)
    if not is_project(folder):
        if _needs_project(program, options, folder, environment):
            raise not_a_project(folder)
        return
    Store.from_environment()
    if program == "dg" and _is_one_of(arguments, PACKAGE_COMMANDS):
        check_package_folder(folder)
    if environment.get("DAGSTER_HOME", "") in ("", str(folder)):
        check_instance_folder(folder)
        check_instance_modules(folder)
        environment["DAGSTER_HOME"] = str(folder)
    else:
        check_instance_modules(_own_home(environment["DAGSTER_HOME"]))
    needs_module = program == "dagster" and _is_one_of(arguments, FLAG_COMMANDS)
    if needs_module and not options.target:
        environment.setdefault("DAGSTER_MODULE_NAME", MODULE)
    elif environment.get("DAGSTER_MODULE_NAME") == MODULE:
        del environment["DAGSTER_MODULE_NAME"]  # with it, `dagster dev` waits for ever
    warnings.filterwarnings("ignore", "Function `.*` is superseded")  # by `dg`: both work
    # Dagster reads it itself: with PYTHONWARNINGS=error, its services would not start.
    warnings.filterwarnings("ignore", "Property `ScheduleDefinition.environment_vars` is deprecated")


def _is_one_of(arguments: Sequence[str], commands: Sequence[list[str]]) -> bool:
    return any([*arguments][: len(words)] == words for words in commands)


def _options(program: str, arguments: Sequence[str]) -> Namespace:
    """The command, the definitions that the user names, and the folder of ``dg --target-path``."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    for flags in ("-f --python-file", "-m --module-name", "-w --workspace", "--package-name"):
        parser.add_argument(*flags.split(), dest="target", action="append", nargs="?")
    for flag in ("--autoload-defs-module-name", "--grpc-host", "--grpc-port", "--grpc-socket"):
        parser.add_argument(flag, dest="target", action="append", nargs="?")
    if program == "dagster-graphql":
        parser.add_argument("-r", "--remote", dest="target", action="append", nargs="?")
    parser.add_argument("--target-path", type=Path, nargs="?")
    options, rest = parser.parse_known_args(list(arguments))
    options.command = next((word for word in rest if not word.startswith("-")), "")
    return options


def _needs_project(
    program: str, options: Namespace, folder: Path, environment: MutableMapping[str, str]
) -> bool:
    """Whether the command needs definitions or an instance, and was not given those of another project."""
    if options.target_path and is_readable_project(options.target_path):
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
        if is_readable_project(place):
            return False
        settings = [place / name for name in ("dagster.yaml", "dg.toml", "workspace.yaml")]
        if any(map(os.path.isfile, settings)) or _names_dagster(place / "pyproject.toml"):
            return True
    return False


def _names_dagster(pyproject: Path) -> bool:
    """Whether the file has settings of Dagster. One that may not be read has none."""
    with suppress(OSError):
        text = pyproject.read_text("utf-8", "replace") if os.path.isfile(pyproject) else ""
        return bool(re.search(r"^\[tool\.(dagster|dg)\b", text, re.M))
    return False


def _own_home(home: str) -> Path:
    """The user's own instance folder."""
    path = Path(os.path.expanduser(home))
    if not path.is_absolute() or not os.path.isdir(path):
        raise PipelineError(
            f"DAGSTER_HOME is {home!r}, which is not the absolute path of a folder; create it, or unset it."
        )
    return path


def _disable_telemetry(environment: MutableMapping[str, str]) -> None:
    """Leave no statistics in any folder, whatever dagster.yaml says, or without one.

    Dagster's variable stops only the upload. The import costs nothing: each of `PROGRAMS` needs the module.
    """
    from dagster_shared import telemetry

    environment["DAGSTER_DISABLE_TELEMETRY"] = "1"
    for name in RECORDERS:
        setattr(telemetry, name, lambda *args, **kwargs: "")
