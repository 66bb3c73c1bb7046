"""docs/profiles.md: one row for each setting, with its default."""

import re
import tomllib

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vdm_pipeline.settings import ExtraArm, ModelPin, Profile
from vdm_pipeline.settings.execution import Cluster
from vdm_pipeline_tests.paths import ROOT

TEXT = (ROOT / "docs/profiles.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    f"## `[{name}]`": field.annotation
    for name, field in Profile.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
} | {"### Extra arms": ExtraArm, "### `[execution.ray]`": Cluster}


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table under the heading that starts like this."""
    part = TEXT.split(f"\n{heading}", 1)[1].split("\n| key |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()[2:]]


def has_default(text: str, field: FieldInfo) -> bool:
    """Whether the cell shows the default. Lists, and the table of Ray, are not compared."""
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        return text == "required"
    if default is None or default == ():
        return text == "none"
    if isinstance(default, str):
        return text == f"`{default}`"
    if isinstance(default, bool | int | float):
        return tomllib.loads(f"value = {text}")["value"] == default
    return isinstance(default, tuple | BaseModel)


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_setting_has_a_row_with_its_default(heading):
    fields = SECTIONS[heading].model_fields
    table = rows(heading)
    assert [row[0].strip("`") for row in table] == list(fields)
    wrong = [
        row[0] for row, field in zip(table, fields.values(), strict=True) if not has_default(row[1], field)
    ]
    assert wrong == []


def test_every_key_of_a_model_has_a_row():
    assert {row[0].strip("`") for row in rows("## A model")} == set(ModelPin.model_fields)


def test_the_examples_are_toml():
    examples = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert examples and all(tomllib.loads(example) for example in examples)
