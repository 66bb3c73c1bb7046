"""The root folder of the checkout, and folders like it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make_project(folder: Path) -> Path:
    """Give the folder what makes it a project for Dagster's commands; returns it."""
    for name in ("dagster.yaml", "pyproject.toml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    if not (folder / "vdm_pipeline").exists():
        (folder / "vdm_pipeline").symlink_to(ROOT / "vdm_pipeline")
    return folder
