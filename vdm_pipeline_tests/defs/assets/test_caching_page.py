"""docs/caching.md has a row for every tested change, and no other."""

from vdm_pipeline_tests.defs.assets.test_changes import TABLE
from vdm_pipeline_tests.paths import ROOT

DOCUMENT = ROOT / "docs/caching.md"


def test_the_page_lists_every_tested_change_in_order():
    table = DOCUMENT.read_text(encoding="utf-8").split("| change | computes |")[1].split("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert rows == [row.what for row in TABLE]
