"""CSV, JSON and JSON lines: written atomically, and read with a clear error if the file is damaged."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text

if TYPE_CHECKING:
    import pandas as pd


def write_csv(path: Path, frame: "pd.DataFrame") -> None:
    """Write a table with a header and six significant digits; the same table gives the same bytes."""
    write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON. Raises ``ValueError`` for NaN and infinity."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises `PipelineError` if the file is missing or damaged."""
    return _parse(_read_bytes(path), str(path))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line."""
    write_text(path, "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path, text_keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read one JSON object per line.

    Raises `PipelineError` with the file and the line if it is damaged, or if one of ``text_keys`` is missing
    in it or not a string.
    """
    content = _read_bytes(path)
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [_parse_row(line, f"{path} line {number}", text_keys) for number, line in enumerate(lines, 1)]


def _parse_row(line: bytes, source: str, text_keys: Sequence[str]) -> dict[str, Any]:
    row = _parse(line, source)
    if not isinstance(row, dict):
        raise PipelineError(f"{source} is not a JSON object; materialize its asset again.")
    for key in text_keys:
        if not isinstance(row.get(key), str):
            raise PipelineError(f"{source}: '{key}' is missing or not a string; materialize its asset again.")
    return row


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be read ({error.strerror}); materialize its asset again."
        ) from None


def _parse(content: bytes, source: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: also wrong UTF-8 and too long numbers
        raise PipelineError(f"{source} is not valid JSON ({error}); materialize its asset again.") from None
