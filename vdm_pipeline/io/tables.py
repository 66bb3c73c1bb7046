"""CSV, JSON and JSON-lines files, written atomically and read with a sentence when they are damaged."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text

if TYPE_CHECKING:
    import pandas as pd


def write_csv(path: Path, frame: "pd.DataFrame") -> None:
    """Write a table with a header, six significant digits; the same table gives the same bytes."""
    write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON; NaN and infinity are refused with a ``ValueError``."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises `PipelineError` naming a damaged file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is no valid JSON ({error}); materialize its asset again.") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line; raises `PipelineError` naming file and line."""
    rows, content = [], path.read_bytes()
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], 1):
        try:
            rows.append(json.loads(line.decode("utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise PipelineError(f"{path} line {number} is no valid JSON ({error}); materialize its asset again.") from None
    return rows
