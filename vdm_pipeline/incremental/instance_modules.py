"""Whether the modules that a dagster.yaml names are installed. Dagster would end in a stack trace."""

import site
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from vdm_pipeline.errors import PipelineError, install_command
from vdm_pipeline.incremental.project_folder import translate_read_errors

DATABASES = {"postgres": "dagster_postgres", "mysql": "dagster_mysql"}
EXTRAS = {"dagster_postgres": "postgres", "dagster_k8s": "k8s", "dagster_ray": "ray"}


def check_instance_modules(home: Path) -> None:
    """Raise `PipelineError` if ``home/dagster.yaml`` needs a module that is not installed, or is not YAML.

    It imports none of them, and takes milliseconds.
    """
    settings = home / "dagster.yaml"
    with translate_read_errors(settings):
        text = settings.read_bytes() if settings.is_file() else b""
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        line = f" (line {error.problem_mark.line + 1})" if isinstance(error, yaml.MarkedYAMLError) else ""
        raise PipelineError(f"{settings} is not valid YAML{line}; correct it.") from None
    for module in _modules(config) if isinstance(config, dict) else ():
        package = module.partition(".")[0]
        if package and not _is_installed(package, home):
            fix = "install it, or correct the file."
            if package in EXTRAS:
                fix = f"run: {install_command(EXTRAS[package])}"
            raise PipelineError(f"{settings} needs {package}, which is not installed; {fix}")


def _modules(config: dict[str, Any]) -> Iterator[str]:
    """Modules of the classes that replace Dagster's own: of databases, run launchers and others."""
    storage = config.get("storage")
    yield from (DATABASES[name] for name in DATABASES if isinstance(storage, dict) and name in storage)
    for section in config.values():
        if isinstance(section, dict):
            for place in (section, section.get("custom")):
                if isinstance(place, dict) and isinstance(place.get("module"), str):
                    yield place["module"]


def _is_installed(package: str, folder: Path) -> bool:
    """Also if it is in a folder that Python adds to its path only after `vdm_pipeline.commands` has run."""
    return bool(find_spec(package) or PathFinder.find_spec(package, [str(folder), *site.getsitepackages()]))
