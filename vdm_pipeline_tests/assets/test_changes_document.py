"""docs/freshness.md has a row for every change of the table, and for no other."""

from pathlib import Path

from vdm_pipeline_tests.assets.test_changes import TABLE

DOCUMENT = Path(__file__).parents[2] / "docs/freshness.md"


def test_every_change_stands_in_the_document_in_order():
    table = DOCUMENT.read_text(encoding="utf-8").split("| change | computes |")[1].split("\n\n")[0]
    told = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert told == [row.what for row in TABLE]
