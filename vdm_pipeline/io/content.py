"""Digests of parts of a file's content: some columns, keys, arrays or sections of it."""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.tables import read_json, read_rows

CHUNK = 2**20
SECTION = r'<section class="{}">.*?</section>'


def digest_of_fields(path: Path, fields: Sequence[str]) -> str:
    """Sha256 of the named columns of a CSV file, keys of JSON lines, or arrays of an ``.npz`` file, in order.

    A field that the file lacks counts as missing. Raises `PipelineError` if the file is damaged.
    """
    if path.suffix == ".npz":
        return _digest_of_arrays(path, fields)
    return _sha256([[row.get(name) for name in fields] for row in _rows(path)])


def digest_without(path: Path, fields: Sequence[str]) -> str:
    """Sha256 of a file without the named columns of a CSV file, keys of JSON, or sections of an HTML page.

    Raises `PipelineError` if the file is damaged, or if an HTML page has no such section.
    """
    if path.suffix == ".html":
        return _sha256(_without_sections(path, fields))
    rows = [read_json(path)] if path.suffix == ".json" else _rows(path)
    return _sha256([{key: value for key, value in row.items() if key not in fields} for row in rows])


def _rows(path: Path) -> list[dict[str, Any]]:
    readers: dict[str, Callable[[Path], list[dict[str, Any]]]] = {".csv": _read_csv, ".jsonl": read_rows}
    return readers[path.suffix](path)


def _read_csv(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(_text(path))))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} cannot be read ({error}); materialize its asset again.") from None


def _digest_of_arrays(path: Path, names: Sequence[str]) -> str:
    """The bytes of the arrays, however they are compressed."""
    digests = {}
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as member:
                digest = hashlib.sha256()
                while chunk := member.read(CHUNK):
                    digest.update(chunk)
                digests[name] = digest.hexdigest()
    return _sha256(digests)


def _without_sections(path: Path, names: Sequence[str]) -> str:
    page = _text(path)
    for name in names:
        page, n = re.subn(SECTION.format(re.escape(name)), "", page, flags=re.DOTALL)
        if n != 1:
            raise PipelineError(
                f"{path} has {n} sections '{name}' instead of one; materialize its asset again."
            )
    return page


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
