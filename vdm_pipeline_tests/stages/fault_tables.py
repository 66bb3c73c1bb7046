"""Compare errors with the tables of ``docs/models.md``."""

import re

from vdm_pipeline_tests.paths import ROOT


def matches(pattern: str, line: str) -> bool:
    """Whether the line equals the pattern, in which each ``…`` matches anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("…")), line) is not None


def documented_rows(first: str) -> list[tuple[str, ...]]:
    """Rows of the table whose first row starts with the cell ``first``."""
    lines = (ROOT / "docs/models.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("| "):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return rows
