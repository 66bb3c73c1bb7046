"""docs/own_data.md: its examples are valid in the profile that the page tells the reader to copy."""

import re
import tomllib

import pytest

from vdm_pipeline.settings import PROFILES, Profile
from vdm_pipeline_tests.paths import ROOT

EXAMPLES = re.findall(
    r"```toml\n(.*?)```", (ROOT / "docs/own_data.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_fits_into_a_profile(example):
    profile = tomllib.loads((PROFILES / "pneumoniamnist.toml").read_text(encoding="utf-8"))
    sections = tomllib.loads(example.replace("<64 hex digits>", "0" * 64))
    for name, values in sections.items():
        profile[name] = values
    assert Profile.model_validate(profile, strict=False).data.dataset == sections["data"]["dataset"]
