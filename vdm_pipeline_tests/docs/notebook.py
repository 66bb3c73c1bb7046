"""Reads docs/hosted_gpu.ipynb, and runs it with other parameters."""

import ast
import json
from pathlib import Path
from typing import Any

from vdm_pipeline_tests.paths import ROOT

NOTEBOOK = ROOT / "docs/hosted_gpu.ipynb"
CELL_TIMEOUT_S = 600


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def source(cell: str) -> str:
    """The text of a cell, by its id."""
    return "".join(next(one for one in cells() if one["id"] == cell)["source"])


def commands() -> list[str]:
    """The shell commands of the notebook, with ``{}`` instead of values that are inserted at run time."""
    trees = (ast.parse("".join(cell["source"])) for cell in cells() if cell["cell_type"] == "code")
    calls = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [_text(call.args[0]) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "sh"]


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ast.literal_eval(node)


def execute(folder: Path, profile: str, source: str) -> dict[str, Any]:
    """Run every cell in a new kernel; returns the outputs by cell.

    Raises ``nbclient.exceptions.CellExecutionError`` if a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = f"PROFILE = {profile!r}\nSOURCE = {source!r}\nINSTALL = False"
    NotebookClient(
        book, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return {cell.id: cell.outputs for cell in book.cells if cell.cell_type == "code"}


def shown(outputs: list[dict[str, Any]], kind: str) -> str:
    """The outputs of a cell of one kind, such as ``text/html``; ``text`` is what it printed."""
    texts = [
        output.get("text", "") if kind == "text" else output.get("data", {}).get(kind, "")
        for output in outputs
    ]
    return "\n".join(filter(None, texts))
