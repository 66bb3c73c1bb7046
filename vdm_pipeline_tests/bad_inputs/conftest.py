"""A project in which everything was made, for all of the catalogue."""

import shutil
from pathlib import Path

import pytest

from vdm_pipeline.settings import Profile


@pytest.fixture
def finished(made_once) -> tuple[Profile, Path]:
    """Profile and folder; nobody writes there."""
    profile, top = made_once
    return profile, top / "project"


@pytest.fixture
def copied(finished, tmp_path) -> tuple[Profile, Path]:
    """The same in a folder of the test's own, without caches and checkpoints."""
    profile, root = finished
    shutil.copytree(
        root, tmp_path / "project", ignore=shutil.ignore_patterns(".cache", ".training", ".staging")
    )
    return profile, tmp_path / "project"
