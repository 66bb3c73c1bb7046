"""README.md: one screen, and a diagram of the asset graph as it is."""

import re
from itertools import pairwise

from vdm_pipeline.graph import STAGES
from vdm_pipeline_tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_LINES, MAX_COLUMNS = 100, 110


def diagram() -> set[tuple[str, str]]:
    """Edges of the mermaid diagram."""
    (text,) = re.findall(r"```mermaid\nflowchart LR\n(.*?)```", README, re.DOTALL)
    edges = set()
    for line in text.splitlines():
        nodes = re.split(r"-\.[\w\- ]+\.->|-->", line.replace(" ", ""))
        edges |= set(pairwise(nodes))
    return edges


def test_it_fits_on_a_screen():
    lines = README.splitlines()
    assert len(lines) <= MAX_LINES
    assert [line for line in lines if len(line) > MAX_COLUMNS] == []


def test_the_diagram_shows_every_asset_and_no_wrong_edge():
    edges = diagram()
    assert {node for edge in edges for node in edge} == set(STAGES)
    assert [edge for edge in edges if edge[0] not in STAGES[edge[1]].inputs] == []
