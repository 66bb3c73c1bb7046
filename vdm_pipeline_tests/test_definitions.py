"""What Dagster loads: complete, cheap to import, and a clear sentence for a bad profile."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.definitions import defs
from vdm_pipeline.graph import STAGES
from vdm_pipeline_tests.paths import make_project


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def test_definitions_load():
    dg.Definitions.validate_loadable(defs)
    assert {key.to_user_string() for key in defs.resolve_all_asset_keys()} == set(STAGES)


def test_every_asset_carries_a_code_version_and_a_description():
    for spec in defs.resolve_all_asset_specs():
        assert spec.code_version, spec.key
        assert spec.description, spec.key


def test_import_loads_no_heavy_package():
    heavy = ("torch", "diffusers", "transformers", "open_clip", "pandas", "matplotlib", "medmnist")
    result = run_python(
        f"import sys, vdm_pipeline.definitions; print([m for m in {heavy} if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("name", "text", "fragment"),
    [
        ("nowhere", None, "VDM_PROFILE is 'nowhere'"),
        ("typo.toml", "[data]\nsizes = 28\n", "data.sizes"),
        ("broken.toml", "[data\n", "broken.toml is not valid TOML"),
    ],
)
def test_bad_profile_is_a_clear_error_and_no_traceback(tmp_path, name, text, fragment):
    path = name if text is None else str(tmp_path / name)
    if text is not None:
        Path(path).write_text(text)
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "list"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "VDM_PROFILE": path},
        cwd=make_project(tmp_path),
        timeout=120,
    )
    assert result.returncode != 0
    assert fragment in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()
