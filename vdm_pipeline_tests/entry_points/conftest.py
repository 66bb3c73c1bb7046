"""An empty home folder, and a project that is quick to run."""

from pathlib import Path

import pytest

from vdm_pipeline_tests.paths import make_project
from vdm_pipeline_tests.profiles import write_profile


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path, tiny) -> Path:
    """A project folder with the smallest profile, ``small.toml``."""
    (tmp_path / "project/data").mkdir(parents=True)
    write_profile(tmp_path / "project/small.toml", tiny)
    return make_project(tmp_path / "project")
