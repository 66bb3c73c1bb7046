"""docs/scaling.md: its table is what its formula makes of its constants."""

import re

import pytest

from vdm_pipeline_tests.paths import ROOT

TEXT = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
CORES, PRICE = 16, 2.5


def constant(name: str) -> float:
    (found,) = re.findall(rf"^\| {name} \| ([\d.,]+)", TEXT, re.MULTILINE)
    return float(found.replace(",", ""))


def labels(n: int, gpus: int) -> float:
    return constant("a") + max(n / (gpus * constant("l")), n / constant("v"))


def two_arms(n: int, gpus: int) -> float:
    return 2 * (constant("a") + n / (gpus * constant("d")) + n * constant("c") / 1000 / CORES)


ROWS = re.findall(
    r"^\| ([\d,]+) images (labelled|drawn, twice) \| (\d+) \| ([\d,]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE
)


def test_every_row_is_there():
    assert [(job, gpus) for _, job, gpus, *_ in ROWS] == [
        (job, gpus) for job in ("labelled", "drawn, twice") for gpus in ("1", "8", "64")
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]} by {row[2]}")
def test_the_table_is_the_formulas(row):
    images, job, gpus, seconds, dollars = row
    expected = {"labelled": labels, "drawn, twice": two_arms}[job](int(images.replace(",", "")), int(gpus))
    assert float(seconds.replace(",", "")) == pytest.approx(expected, abs=0.51)
    assert float(dollars) == pytest.approx(int(gpus) * expected / 3600 * PRICE, abs=0.006)
    assert f"k = {CORES}" in TEXT and f"{PRICE:.2f} dollars an hour" in TEXT
