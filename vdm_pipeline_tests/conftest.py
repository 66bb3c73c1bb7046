"""What several tests share: the smallest profile, an empty project folder, and one in which everything was made."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline_tests.postgres import MISSING, any_server, is_at_hand

if TYPE_CHECKING:
    from vdm_pipeline_tests.defs.assets.project import ProjectFolder

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


LONGEST = (
    "test_daemon.py",
    "test_ui.py",
    "test_kills.py",
    "test_changes.py",
    "test_loop.py",
    "test_cluster.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that of several processes none waits at the end for another."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The demo profile, made as small as it still runs, with sample sheets of few steps."""
    from vdm_pipeline.stages.training import sample_sheet as samples

    monkeypatch.setattr(samples, "STEPS", 2)
    return shrink(load_profile("demo"))


def shrink(profile: Profile, **sections: dict) -> Profile:
    """The profile with few phantoms, steps and images; ``sections`` change further values."""
    small: dict[str, dict] = {
        "data": {"train": 80, "val": 24, "test": 24},
        "subset": {"per_class": 8},
        "training": {"max_train_steps": 6, "batch_size": 4, "lr_warmup_steps": 2},
        "generation": {
            "per_class": 3,
            "num_inference_steps": 2,
            "extra": ({"name": "dpm2", "scheduler": "dpm", "num_inference_steps": 2},),
        },
        "evaluation": {"judge_epochs": 1, "bootstrap": 50, "utility_epochs": 1, "utility_seeds": 1},
        "execution": {"device": "cpu", "generation_batch_size": 4, "checkpoint_every": 2, "log_every": 2},
    }
    values = profile.model_dump()
    for changes in (small, sections):
        for name, section in changes.items():
            values[name] = {**values[name], **section}
    return Profile.model_validate(values)


def write_profile(path: Path, profile: Profile) -> Path:
    """The profile as a TOML file, for processes of their own."""
    sections = profile.model_dump(mode="json", exclude_none=True)
    lines = [f"name = {_toml(sections.pop('name'))}"]
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    assert load_profile(str(path)) == profile
    return path


def _toml(value: object) -> str:
    """JSON's numbers, texts, truths and lists are TOML too; tables are not."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder."""
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user reaches; pytest's own is closed to others than its owner."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server for these tests."""
    if not is_at_hand():
        pytest.skip(MISSING)
    with any_server() as url:
        yield url


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """The whole graph, made once for all of pytest's processes: its profile, and the folder of ``project`` and the instance's ``home``."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    top, known = shared / "made", shared / "made.json"
    with FileLock(shared / "made.lock"):
        if not known.exists():
            known.write_text(_make(top).model_dump_json())
    return Profile.model_validate_json(known.read_text()), top


def _make(top: Path) -> Profile:
    from vdm_pipeline.stages.training import sample_sheet as samples
    from vdm_pipeline_tests.defs.assets.graph import computed, lasting, materialize, sentence
    from vdm_pipeline_tests.defs.assets.project import smallest

    shutil.rmtree(top, ignore_errors=True)  # what another process of pytest's could not finish
    (top / "project/data").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, lasting(top / "home") as instance:
        patch.setattr(samples, "STEPS", 2)
        profile = smallest(top / "project")
        result = materialize(profile, top / "project", instance=instance)
        assert result.success, sentence(result)
    assert len(computed(result)) == 14
    return profile


@pytest.fixture
def made(made_once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "ProjectFolder":
    """A copy of it, to be changed."""
    from vdm_pipeline.stages.training import sample_sheet as samples
    from vdm_pipeline_tests.defs.assets.project import ProjectFolder

    profile, top = made_once
    monkeypatch.setattr(samples, "STEPS", 2)
    shutil.copytree(top, tmp_path / "copy")
    return ProjectFolder(profile, tmp_path / "copy/project", tmp_path / "copy/home", monkeypatch)
