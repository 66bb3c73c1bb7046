"""docs/caching.md has a row for every change of the table, and for no other."""

from vdm_pipeline_tests.defs.assets.test_changes import TABLE
from vdm_pipeline_tests.paths import ROOT

DOCUMENT = ROOT / "docs/caching.md"


def test_every_change_stands_in_the_document_in_order():
    table = DOCUMENT.read_text(encoding="utf-8").split("| change | computes |")[1].split("\n\n")[0]
    told = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert told == [row.what for row in TABLE]
