"""Fixtures of the tests of bad inputs: a finished project, and the expected error sentences."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdm_pipeline.settings import Profile
from vdm_pipeline_tests.bad_inputs.sentences import Sentences, is_updating


@pytest.fixture
def finished_folder(finished_once: tuple[Profile, Path]) -> tuple[Profile, Path]:
    """Profile and folder of a finished project; tests only read it."""
    profile, top = finished_once
    return profile, top / "project"


@pytest.fixture
def copied_folder(finished_folder: tuple[Profile, Path], tmp_path: Path) -> tuple[Profile, Path]:
    """A copy of the finished project for one test, without caches and checkpoints."""
    profile, root = finished_folder
    without = shutil.ignore_patterns(".cache", ".training", ".staging")
    shutil.copytree(root, tmp_path / "project", ignore=without)
    return profile, tmp_path / "project"


@pytest.fixture(scope="session")
def sentences() -> Iterator[Sentences]:
    """The expected sentences. A run that updates them writes the file and docs/errors.md at its end."""
    expected = Sentences()
    yield expected
    if is_updating():
        from vdm_pipeline_tests.bad_inputs import catalogue

        expected.save(catalogue.titles())
        catalogue.write_document()
