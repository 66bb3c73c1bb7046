"""The compose files as Compose reads them: anchors merged, variables filled in."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from vdm_pipeline_tests.paths import ROOT

DOCKER = ROOT / "docker"
VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")


class MissingVariable(Exception):
    """A required variable that is not set, with the file's message."""


def compose(name: str = "compose.yaml", **variables: str) -> dict[str, Any]:
    """The file's content; raises `MissingVariable` for a required variable that is not given."""
    return _filled(yaml.safe_load((DOCKER / name).read_text()), variables)


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables) for inner in value]
    return VARIABLE.sub(lambda match: _value(match, variables), value) if isinstance(value, str) else value


def _value(match: re.Match, variables: Mapping[str, str]) -> str:
    name, kind, rest = match.groups()
    if variables.get(name):
        return variables[name]
    if kind != ":-":
        raise MissingVariable(f"{name}: {rest}")
    return rest
