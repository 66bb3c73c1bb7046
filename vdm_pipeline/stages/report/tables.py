"""The report's tables as plain values: a caption, columns, and blocks of rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vdm_pipeline.stages.report.formatting import number


class Cell(NamedTuple):
    """A figure, and a detail in small print below it, such as its interval."""

    text: str
    detail: str = ""


class Row(NamedTuple):
    """A title and one cell per column."""

    title: str
    cells: list[Cell]


class Block(NamedTuple):
    """Rows under one heading; an empty heading is not shown."""

    title: str
    rows: list[Row]


class Table(NamedTuple):
    """The content of one HTML table."""

    caption: str
    columns: list[str]
    blocks: list[Block]


def metric_cell(metric: Any, *details: str) -> Cell:
    """A value with its interval, then ``details``, in small print. Plain numbers have no interval."""
    if not isinstance(metric, Mapping):
        return Cell(number(metric))
    ends = metric.get("ci95")
    interval = [f"[{number(ends[0])}, {number(ends[1])}]"] if ends else []
    return Cell(number(metric.get("value")), ", ".join([*interval, *details]))
