"""Shared fixtures: a small profile, an empty project folder, and a finished project."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline_tests.postgres import MISSING, any_server, is_available
from vdm_pipeline_tests.profiles import shrink

if TYPE_CHECKING:
    from vdm_pipeline_tests.defs.assets.project import ProjectFolder

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several tests run at a time. And splitting a sum among threads decides its last bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    # On a disk, whole-graph tests would wait for it a sixth of their time.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

LONGEST = (
    "test_training_script.py",
    "test_image.py",
    "test_daemon.py",
    "test_kills.py",
    "test_ui.py",
    "test_changes.py",
    "test_console.py",
    "test_home.py",
    "test_automation.py",
    "test_resume.py",
    "test_ray_pool.py",
)
"""Files that start first, so that no process of pytest-xdist ends alone with a long one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The demo profile, as small as it still runs, with shortened trainings."""
    from vdm_pipeline_tests.quick_stages import shorten_stages

    shorten_stages(monkeypatch)
    return shrink(load_profile("demo"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder."""
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can read; pytest's own folders are only for their owner."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server for these tests."""
    if not is_available():
        pytest.skip(MISSING)
    with any_server() as url:
        yield url


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """A finished project, computed once for all processes of pytest-xdist.

    Returns its profile, and the folder of ``project`` and of ``home``, the Dagster instance's.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    top, profile = shared / "finished", shared / "finished.json"
    with FileLock(shared / "finished.lock"):
        if not profile.exists():
            profile.write_text(_materialize_all(top).model_dump_json())
    return Profile.model_validate_json(profile.read_text()), top


def _materialize_all(top: Path) -> Profile:
    """Materialize the whole graph in ``top / "project"``."""
    from vdm_pipeline_tests.defs.assets.graph import computed, error_message, materialize, persistent_instance
    from vdm_pipeline_tests.defs.assets.project import smallest
    from vdm_pipeline_tests.quick_stages import shorten_stages

    shutil.rmtree(top, ignore_errors=True)  # left by a process that was killed
    (top / "project/data").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, persistent_instance(top / "home") as instance:
        shorten_stages(patch)
        profile = smallest(top / "project")
        result = materialize(profile, top / "project", instance=instance)
        assert result.success, error_message(result)
    assert len(computed(result)) == 14
    return profile


@pytest.fixture
def finished(finished_once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "ProjectFolder":
    """A copy of the finished project, which the test may change."""
    from vdm_pipeline_tests.defs.assets.project import ProjectFolder
    from vdm_pipeline_tests.quick_stages import shorten_stages

    profile, top = finished_once
    shorten_stages(monkeypatch)
    shutil.copytree(top, tmp_path / "copy")
    return ProjectFolder(profile, tmp_path / "copy/project", tmp_path / "copy/home", monkeypatch)
