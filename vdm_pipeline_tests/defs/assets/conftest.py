"""Fixtures of the assets' tests."""

import shutil
from pathlib import Path

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.defs.assets.graph import error_message, materialize
from vdm_pipeline_tests.profiles import shrink


@pytest.fixture(scope="session")
def embedded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the archive and the embeddings of the profile ``tiny``."""
    root = tmp_path_factory.mktemp("embedded")
    (root / "data").mkdir()
    result = materialize(shrink(load_profile("demo")), root, ["raw_npz", "image_embeddings"])
    assert result.success, error_message(result)
    return root


@pytest.fixture
def embedded(embedded_once: Path, tmp_path: Path) -> Path:
    """A copy of the project with the embeddings, which the test may change."""
    return shutil.copytree(embedded_once, tmp_path / "embedded")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> pytest.CaptureFixture:
    """Captures stderr, to which Dagster prints its whole log."""
    monkeypatch.setenv("VDM_LOG", "debug")
    return capsys
