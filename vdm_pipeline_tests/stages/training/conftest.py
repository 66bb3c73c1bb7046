"""Fixtures of the training's tests."""

from pathlib import Path

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.quick_stages import shorten_stages
from vdm_pipeline_tests.stages.training.jobs import trained


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of an uninterrupted training of the profile ``tiny``; tests only read it and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_stages(patch)
        return trained(shrink(load_profile("demo")), tmp_path_factory.mktemp("training") / "whole")
