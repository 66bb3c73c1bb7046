"""docs/security.md: every line of its lists names tests, and these exist."""

import ast
import re
from functools import cache

import pytest

from vdm_pipeline_tests.paths import ROOT

TESTS = ROOT / "vdm_pipeline_tests"
DOCUMENT = TESTS.parent / "docs/security.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def lines() -> list[str]:
    """Rows of the tables, without heads and rules."""
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [row for row in rows if row != "| threat | what is done | shown by |" and row.strip("|-")]


@cache
def defined_in(path: str) -> set[str]:
    """Names of a module's tests; those of classes do not count, as there are none."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.split("|")[1].strip()[:60])
def test_a_line_names_tests_that_exist(line):
    *_, shown, _ = line.split("|")
    named = NAMED.findall(shown)
    assert named and not NAMED.sub("", shown).strip()
    assert [
        f"{path}::{name}"
        for path, name in named
        if not (TESTS / path).is_file() or name not in defined_in(path)
    ] == []


def test_the_list_is_whole():
    text = DOCUMENT.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert len(lines()) >= 40
    for part in re.split(r"^## .+$", text, flags=re.M)[1:-1]:
        assert "| threat | what is done | shown by |" in part
    assert headings[-1] == "What nothing here protects from"
