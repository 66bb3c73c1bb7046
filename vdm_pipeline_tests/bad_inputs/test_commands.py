"""The commands themselves: the sentence on stderr, an exit code that is not 0, and nothing written."""

import os
import subprocess
import sys
from pathlib import Path

from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot

DAGSTER = [
    str(Path(sys.executable).with_name("dagster")),
    "asset",
    "materialize",
    "-m",
    "vdm_pipeline.definitions",
    "--select",
]
DIGEST = [sys.executable, "-m", "vdm_pipeline.stages.models"]
HOW = "name the folder of one model, or a hub id and its commit: python -m vdm_pipeline.stages.models PATH, or OWNER/NAME COMMIT"
Made = tuple[list[str], dict[str, str]]
"""The command, and what it finds in its environment."""


def bad_archive(root: Path) -> Made:
    (root / "data/pneumoniamnist.npz").write_bytes(b"<html>404</html>")
    return [*DAGSTER, "raw_npz"], {"VDM_PROFILE": "pneumoniamnist"}


CASES = [
    Case(
        "`dagster asset materialize` with a bad archive",
        "…Failure: …pneumoniamnist.npz: it is no .npz file (a zip); put an intact pneumoniamnist.npz of MedMNIST there.",
        bad_archive,
    ),
    Case(
        "`dagster asset materialize` of an asset whose inputs were never made",
        "…Failure: Asset labeled_dataset has not been materialized; "
        "run: dagster asset materialize -m vdm_pipeline.definitions --select '*labeled_dataset'",
        lambda root: ([*DAGSTER, "label_metrics"], {"VDM_PROFILE": "demo"}),
    ),
    Case(
        "`VDM_FORCE` of what is no asset",
        "Error: VDM_FORCE names lora_weight, which is no asset; name all, or some of raw_npz, … report.",
        lambda root: ([*DAGSTER, "raw_npz"], {"VDM_FORCE": "lora_weight"}),
    ),
    Case(
        "`VDM_EXECUTOR` of what is no executor",
        "Error: VDM_EXECUTOR is 'celery', which is no executor; name one of in_process, …",
        lambda root: ([*DAGSTER, "raw_npz"], {"VDM_EXECUTOR": "celery"}),
    ),
    Case(
        "`python -m vdm_pipeline.stages.models` of a folder that is not there",
        f"'/no/where' is no folder; {HOW}",
        lambda root: ([*DIGEST, "/no/where"], {}),
    ),
    Case(
        "`python -m vdm_pipeline.stages.models` of a file",
        f"…pyproject.toml' is no folder; {HOW}",
        lambda root: ([*DIGEST, str(root / "pyproject.toml")], {}),
    ),
    Case(
        "`python -m vdm_pipeline.stages.models` of nothing",
        f"0 arguments were given; {HOW}",
        lambda root: (DIGEST, {}),
    ),
]


def run(case: Case, project: Path, home: Path) -> None:
    command, environment = case.make(project)
    before = snapshot(project)
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=home,
        timeout=120,
        env={**os.environ, "VDM_PROFILE": "demo", "VDM_ROOT": str(project), **environment},
    )
    assert result.returncode not in (0, None)
    stale_assets = case.said.strip("…").split("…")[0]
    said = next((line for line in result.stderr.splitlines() if stale_assets in line), result.stderr)
    check(case, said.strip())
    assert snapshot(project) == before


@each(CASES)
def test_a_command_says_it_and_fails(case, project, tmp_path_factory):
    run(case, project, tmp_path_factory.mktemp("home"))
