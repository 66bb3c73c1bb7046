"""What is wrong with a profile, in the words of TOML instead of pydantic's."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

MAX_SHOWN = 80
"""Characters of a rejected value that the error repeats."""
TYPES = {
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_parsing_size": "must be a number of fewer digits",
    "int_type": "must be a whole number",
    "string_type": "must be a text in quotes",
    "tuple_type": "must be a list",
}
RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def describe(error: ValidationError, schema: dict[str, Any]) -> str:
    """The first fault, and how many more there are; ``schema`` is the profile's JSON schema."""
    locations = [fault["loc"] for fault in error.errors()]
    # A list with a rejected entry is also reported as too short.
    faults = [
        fault
        for fault in error.errors()
        if fault["type"] != "too_short" or not any(_is_inside(loc, fault["loc"]) for loc in locations)
    ]
    # A misspelt key is also reported as a missing one.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    return _sentence(fault, schema) + more


def _sentence(fault: Mapping[str, Any], schema: dict[str, Any]) -> str:
    kind, field = fault["type"], ".".join(_key(part) for part in fault["loc"] if part != "[key]")
    if kind == "extra_forbidden":
        return f"unknown key '{field}'; remove it or correct its spelling"
    if kind == "missing":
        return f"'{field}' is missing; add it"
    if kind == "too_short":
        actual, least = fault["ctx"]["actual_length"], fault["ctx"]["min_length"]
        entries = "entry" if actual == 1 else "entries"
        return f"'{field}' has {actual} {entries} and needs at least {least}"
    place = f"{field}: " if field else ""  # a rule about several sections names their keys itself
    return place + _demand(fault, schema) + _given(fault)


def _key(part: int | str) -> str:
    """As TOML writes it."""
    return str(part) if re.fullmatch(r"[\w-]+", str(part)) else f'"{part}"'


def _demand(fault: Mapping[str, Any], schema: dict[str, Any]) -> str:
    """What the value must be."""
    kind = fault["type"]
    if kind in RANGES:
        return f"must be {_range(_schema_at(fault['loc'], schema))}"
    if kind in ("dict_type", "model_type"):
        return f"must be a section, {_header(fault['loc'])}"
    if kind == "literal_error":
        return f"must be {fault['ctx']['expected']}"
    return TYPES.get(kind) or fault["msg"].removeprefix("Value error, ")


def _header(loc: tuple[int | str, ...]) -> str:
    """The line that starts the section in TOML."""
    name = ".".join(_key(part) for part in loc if isinstance(part, str))
    return f"[[{name}]]" if isinstance(loc[-1], int) else f"[{name}]"


def _schema_at(loc: tuple[int | str, ...], schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of one value."""
    place = schema
    for part in loc:
        place = place["items"] if isinstance(part, int) else place["properties"][part]
        place = place.get("anyOf", [place])[0]  # the second is null: no TOML value
        if "$ref" in place:
            place = schema["$defs"][place["$ref"].rpartition("/")[2]]
    return place


def _range(schema: dict[str, Any]) -> str:
    """The numbers that the schema allows, such as ``from 0 to 1``."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if schema["type"] == "integer":
        low, above = (above + 1, None) if above is not None else (low, None)
        high, below = (below - 1, None) if below is not None else (high, None)
    if low is not None and high is not None:
        return f"from {low:,} to {high:,}"
    limits = {"at least": low, "above": above, "at most": high, "below": below}
    return " and ".join(f"{word} {limit:,}" for word, limit in limits.items() if limit is not None)


def _given(fault: Mapping[str, Any]) -> str:
    value = fault["input"]
    if isinstance(value, bool):
        return f" (it is {str(value).lower()})"
    if isinstance(value, str | int | float):
        text = repr(value)
        return f" (it is {text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}… and so on'})"
    if fault["type"] == "value_error":  # of a rule about a whole section
        return ""
    return " (it is a list)" if isinstance(value, list) else " (it is a section)"


def _is_inside(location: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer
