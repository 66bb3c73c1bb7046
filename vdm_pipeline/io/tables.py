"""CSV, JSON and JSON-lines files, written atomically and read with a sentence when they are damaged."""

import json
from collections.abc import Iterable, Mapping, Sequence
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
    """Read JSON; raises `PipelineError` naming a file that is missing or damaged."""
    return _parsed(_bytes(path), str(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be read ({error.strerror}); materialize its asset again."
        ) from None


def _parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (
        ValueError,
        RecursionError,
    ) as error:  # no JSON, no UTF-8, or numbers of thousands of digits; nested for ever
        raise PipelineError(f"{where} is no valid JSON ({error}); materialize its asset again.") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path, texts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read one JSON object a line; raises `PipelineError` naming file and line, also where one of ``texts`` is missing or no text."""
    rows, content = [], _bytes(path)
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else [], 1):
        row = _parsed(line, f"{path} line {number}")
        if not isinstance(row, dict):
            raise PipelineError(f"{path} line {number} is no JSON object; materialize its asset again.")
        lacking = next((key for key in texts if not isinstance(row.get(key), str)), None)
        if lacking:
            raise PipelineError(
                f"{path} line {number} lacks '{lacking}', or it is no text; materialize its asset again."
            )
        rows.append(row)
    return rows
