"""The table of docs/scaling.md follows from its formulas and constants."""

import re

import pytest

from vdm_pipeline_tests.paths import ROOT

TEXT = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
CORES, PRICE = 16, 2.5


def constant(name: str) -> float:
    (value,) = re.findall(rf"^\| {name} \| ([\d.,]+)", TEXT, re.MULTILINE)
    return float(value.replace(",", ""))


def labels(n: int, gpus: int) -> float:
    return constant("start") + max(n / (gpus * constant("labelling speed")), n / constant("reading speed"))


def two_arms(n: int, gpus: int) -> float:
    generation = n / (gpus * constant("generation speed"))
    return 2 * (constant("start") + generation + n * constant("check") / 1000 / CORES)


ROWS = re.findall(
    r"^\| ([\d,]+) images (labelled|generated, twice) \| (\d+) \| ([\d,]+) \| ([\d.]+) \|$",
    TEXT,
    re.MULTILINE,
)


def test_table_has_every_row():
    assert [(job, gpus) for _, job, gpus, *_ in ROWS] == [
        (job, gpus) for job in ("labelled", "generated, twice") for gpus in ("1", "8", "64")
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]} by {row[2]}")
def test_row_follows_from_the_formula(row):
    images, job, gpus, seconds, dollars = row
    expected = {"labelled": labels, "generated, twice": two_arms}[job](
        int(images.replace(",", "")), int(gpus)
    )
    assert float(seconds.replace(",", "")) == pytest.approx(expected, abs=0.51)
    assert float(dollars) == pytest.approx(int(gpus) * expected / 3600 * PRICE, abs=0.006)
    assert f"on {CORES} cores" in TEXT and f"{PRICE:.2f} dollars an hour" in TEXT
