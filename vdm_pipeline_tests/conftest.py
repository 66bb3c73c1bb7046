"""What several tests share: the smallest profile, a project folder, models of the packaged kind."""

import os
from pathlib import Path

import pytest

from vdm_pipeline.settings import Profile, load_profile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The demo profile, made as small as it still runs, with sample sheets of few steps."""
    from vdm_pipeline.stages.training import samples

    monkeypatch.setattr(samples, "STEPS", 2)
    return shrink(load_profile("demo"))


def shrink(profile: Profile, **sections: dict) -> Profile:
    """The profile with few phantoms, steps and images; ``sections`` change further values."""
    small: dict[str, dict] = {
        "data": {"train": 80, "val": 24, "test": 24},
        "subset": {"per_class": 8},
        "training": {"steps": 6, "batch": 4, "warmup_steps": 2},
        "generation": {"per_class": 3, "steps": 2, "extra": ({"name": "dpm2", "scheduler": "dpm", "steps": 2},)},
        "evaluation": {"judge_epochs": 1, "bootstrap": 50, "utility_epochs": 1, "utility_seeds": 1},
        "execution": {"device": "cpu", "image_batch": 4, "checkpoint_every": 2, "log_every": 2},
    }
    values = profile.model_dump()
    for changes in (small, sections):
        for name, section in changes.items():
            values[name] = {**values[name], **section}
    return Profile.model_validate(values)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder."""
    (tmp_path / "data").mkdir()
    return tmp_path
