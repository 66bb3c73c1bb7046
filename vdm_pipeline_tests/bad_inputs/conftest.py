"""One finished project for the whole catalogue, with markup in every text of its profile."""

import shutil
from pathlib import Path

import pytest

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.training import samples
from vdm_pipeline_tests.assets.graph import materialize, sentence
from vdm_pipeline_tests.conftest import shrink

MARKUP = "<img src=x onerror=alert(1)>"


def marked_up() -> Profile:
    """The tiny profile, whose name, licences, caption and one prompt are markup."""
    profile = shrink(load_profile("demo"), data={"train": 64}, generation={"extra": ()})
    values = profile.model_dump()
    values["name"] = MARKUP
    values["classes"]["template"] = f"{MARKUP} {{phrase}}"
    values["labelling"]["phrases"] = ((MARKUP + " healthy lungs", *profile.labelling.phrases[0]), profile.labelling.phrases[1])
    values["labelling"]["model"]["licence"] = values["training"]["base"]["licence"] = MARKUP
    return Profile.model_validate(values)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """Profile and folder of a run from end to end; nobody writes there."""
    profile, root = marked_up(), tmp_path_factory.mktemp("finished")
    (root / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "STEPS", 2)
        result = materialize(profile, root)
    assert result.success, sentence(result)
    return profile, root


@pytest.fixture
def copied(finished, tmp_path) -> tuple[Profile, Path]:
    """The same in a folder of the test's own, without caches and checkpoints."""
    profile, root = finished
    shutil.copytree(root, tmp_path / "project", ignore=shutil.ignore_patterns(".cache", ".training", ".staging"))
    return profile, tmp_path / "project"
