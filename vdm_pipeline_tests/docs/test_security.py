"""Every row of the tables in docs/security.md names tests that exist."""

import ast
import re
from functools import cache

import pytest

from vdm_pipeline_tests.paths import ROOT

TESTS = ROOT / "vdm_pipeline_tests"
HEAD = "| threat | protection | tests |"
DOCUMENT = TESTS.parent / "docs/security.md"
TEST_NAME = re.compile(r"\[\w+\]\(\.\./vdm_pipeline_tests/([\w/]+\.py)#(\w+)\)")


def table_rows() -> list[str]:
    """Rows of the tables, without their heads."""
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [row for row in rows if row != HEAD and row.strip("|-")]


@cache
def defined_in(path: str) -> set[str]:
    """Names of a module's test functions."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def exists(path: str, name: str) -> bool:
    return (TESTS / path).is_file() and name in defined_in(path)


@pytest.mark.parametrize("row", table_rows(), ids=lambda row: row.split("|")[1].strip()[:60])
def test_row_names_tests_that_exist(row):
    *_, cell, _ = row.split("|")
    named = TEST_NAME.findall(cell)
    assert named and not TEST_NAME.sub("", cell).strip()
    missing = [f"{path}::{name}" for path, name in named if not exists(path, name)]
    assert missing == []


def test_every_section_has_a_table():
    text = DOCUMENT.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert len(table_rows()) >= 40
    for part in re.split(r"^## .+$", text, flags=re.M)[1:-1]:
        assert HEAD in part
    assert headings[-1] == "What is not protected"
