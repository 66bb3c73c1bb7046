"""Two equal runs in two folders leave the same bytes, but for what it cost to compute them."""

import json
import re
from pathlib import Path

import pytest

from vdm_pipeline.graph import STAGES
from vdm_pipeline.incremental.store import Store
from vdm_pipeline_tests.defs.assets.graph import error_message, materialize
from vdm_pipeline_tests.defs.assets.project import ProjectFolder, smallest

COST_KEYS = ("device", "durations_s", "peak_memory_mb")
COST_SECTION = re.compile(r'<section class="cost">.*?</section>', re.DOTALL)


@pytest.fixture
def second(finished, tmp_path) -> Path:
    """The project of ``finished``, computed again in another folder."""
    root = tmp_path / "another folder"
    (root / "data").mkdir(parents=True)
    result = materialize(smallest(root), root)
    assert result.success, error_message(result)
    return root


def files(root: Path) -> dict[str, Path]:
    """Every file of an asset, by name."""
    manifests = [Store(root).manifest(asset) for asset in STAGES]
    return {name: root / name for manifest in manifests if manifest for name in manifest.files}


def without_cost(path: Path) -> bytes | str:
    if path.name == "pipeline_summary.json":
        summary = json.loads(path.read_text())
        return json.dumps({key: value for key, value in summary.items() if key not in COST_KEYS})
    if path.name == "index.html":
        return COST_SECTION.sub("", path.read_text())
    if path.name == "training_log.csv":
        return "\n".join(",".join(line.split(",")[:5]) for line in path.read_text().splitlines())
    return path.read_bytes()


@pytest.mark.slow
def test_equal_runs_leave_equal_files_and_versions(finished: ProjectFolder, second: Path):
    first, other = files(finished.root), files(second)
    assert list(first) == list(other)
    assert [name for name in first if without_cost(first[name]) != without_cost(other[name])] == []
    for asset in STAGES:
        pair = [Store(root).manifest(asset) for root in (finished.root, second)]
        recorded = [(one.versions, one.inputs, one.fingerprint) for one in pair if one]
        assert len(recorded) == 2 and recorded[0] == recorded[1]
