"""Compare errors with the tables of ``docs/models.md``."""

import re

from vdm_pipeline_tests.paths import ROOT

TABLE = re.compile(r"^\| fault \| (?P<head>.+) \|\n\|---\|---\|\n(?P<rows>(?:\|.+\|\n)+)", re.MULTILINE)
TEMPLATE = re.compile(r"```text\n([^`]+)\n```\n\n\Z")


def matches(pattern: str, line: str) -> bool:
    """Whether the line equals the pattern, in which each ``…`` matches anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("…")), line) is not None


def documented_errors(section: str) -> dict[str, str]:
    """The error of each fault in the tables of a section; empty if a retry hides the fault.

    The second column has the error, or what the template above the table has in the place of its head.
    """
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    text = text.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    errors = {}
    for table in TABLE.finditer(text + "\n"):
        template = TEMPLATE.search(text[: table.start()])
        form = template[1].replace("\n", " ") if template else table["head"]
        for row in table["rows"].splitlines():
            fault, cell = (part.strip() for part in row.strip("|").split("|"))
            errors[fault] = form.replace(table["head"], cell.strip("`")) if "`" in cell else ""
    return errors
