"""The worked examples of CONTRIBUTING.md, applied to a copy of the package and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vdm_pipeline_tests.paths import ROOT, make_project

EDIT = re.compile(
    r"^`(?P<path>[^`\n]+)`, (?P<where>new file|at the end|(?:after|instead of) `(?P<anchor>[^`\n]+)`):\n\n"
    r"```\w+\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
METRIC = """
import numpy as np
from vdm_pipeline.stages.evaluation.comparison import space_metrics
x, y = np.random.default_rng(0).standard_normal((2, 12, 5))
within = lambda a: ((a @ a.T).sum() - (a * a).sum()) / (12 * 11)
expected = (within(x) + within(y) - 2 * x.mean(0) @ y.mean(0)) / 5
print(space_metrics(x, y, 0).linear_mmd.value - expected)
"""


def apply(edit: re.Match[str], folder: Path) -> None:
    """Apply one edit to the copy."""
    path, code = folder / edit["path"], edit["code"]
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if edit["where"] == "new file":
        assert not path.exists(), f"{edit['path']} exists"
        new = code
    elif edit["where"] == "at the end":
        new = text.rstrip("\n") + "\n" + code
    else:
        assert text.count(edit["anchor"]) == 1, f"{edit['path']} has {edit['anchor']!r} once"
        before = "" if edit["where"].startswith("instead of") else f"{edit['anchor']}\n"
        new = text.replace(edit["anchor"], before + code.rstrip(), 1)
    path.write_text(new, encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all edits."""
    folder = tmp_path_factory.mktemp("contributing")
    shutil.copytree(
        ROOT / "vdm_pipeline", folder / "vdm_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    make_project(folder)
    edits = list(EDIT.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert len(edits) == 15
    for edit in edits:
        apply(edit, folder)
    return folder


def run(copy: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run with the copy instead of the package, in its folder."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("VDM_", "DAGSTER_"))}
    variables = inherited | {"PYTHONPATH": str(copy)} | environment
    result = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_the_new_asset_is_computed_then_skipped_and_its_check_runs_under_the_new_profile(copy):
    command = [tool("dagster"), "asset", "materialize", "--select", "raw_npz,class_balance"]
    run(copy, *command, VDM_PROFILE="mine.toml")
    counts = json.loads((copy / "results/metrics/class_balance.json").read_text())
    assert counts["val"] == {"normal": 30, "pneumonia": 30}
    checks = json.loads((copy / "results/.manifests/class_balance.checks.json").read_text())
    assert checks["every_class_has_images"]["passed"]
    assert "up to date: raw_npz, class_balance" in run(copy, *command, VDM_PROFILE="mine.toml").stderr


def test_the_new_metric_is_the_distance_of_the_means(copy):
    assert abs(float(run(copy, sys.executable, "-c", METRIC).stdout)) < 1e-12


def test_the_edited_package_keeps_the_import_rules(copy):
    run(copy, tool("lint-imports"), "--no-logo", "--no-cache")


def test_the_edited_package_passes_the_linter(copy):
    run(copy, tool("ruff"), "check", "--no-cache", "vdm_pipeline")
    run(copy, tool("ruff"), "format", "--check", "--no-cache", "vdm_pipeline")
