"""docs/hosted_gpu.ipynb, read cell by cell and executed with other values in its cell of parameters."""

import ast
import json
from pathlib import Path
from typing import Any

from vdm_pipeline_tests.paths import ROOT

NOTEBOOK = ROOT / "docs/hosted_gpu.ipynb"
LONGEST_CELL_S = 600


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def source(cell: str) -> str:
    """The text of a cell, by its id."""
    return "".join(next(found for found in cells() if found["id"] == cell)["source"])


def commands() -> list[str]:
    """What the notebook has a shell run, with ``{}`` for what is put in when it runs."""
    found = []
    for cell in cells():
        for node in ast.walk(ast.parse("".join(cell["source"]))) if cell["cell_type"] == "code" else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sh":
                found.append(_text(node.args[0]))
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ast.literal_eval(node)


def execute(folder: Path, profile: str, source: str) -> dict[str, Any]:
    """Run every cell in a kernel of its own; the outputs by cell. Raises nbclient's ``CellExecutionError`` where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = f"PROFILE = {profile!r}\nSOURCE = {source!r}\nINSTALL = False"
    NotebookClient(
        book, timeout=LONGEST_CELL_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return {cell.id: cell.outputs for cell in book.cells if cell.cell_type == "code"}


def shown(outputs: list[dict[str, Any]], kind: str) -> str:
    """All that a cell showed of a kind, such as ``text/html``; ``text`` is what it printed."""
    found = [
        output.get("text", "") if kind == "text" else output.get("data", {}).get(kind, "")
        for output in outputs
    ]
    return "\n".join(filter(None, found))
