"""The Dockerfile: linted, pinned, without root, and made of the Makefile's steps."""

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vdm_pipeline_tests.paths import ROOT

FILE = ROOT / "docker/Dockerfile"


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """Instructions and their arguments, by stage; what stands before the first FROM is the first."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def of(instructions: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for found, rest in instructions if found == word]


def test_hadolint_finds_nothing():
    found = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), FILE], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_stage_stands_on_one_pinned_base(stages):
    (base,) = of(stages[0], "ARG")
    assert re.fullmatch(r"BASE=nvidia/cuda:[\w.-]+@sha256:[0-9a-f]{64}", base)
    assert [rest.split()[0] for stage in stages[1:] for rest in of(stage, "FROM")] == ["${BASE}", "${BASE}"]


def test_the_base_has_the_cuda_of_torch():
    import torch

    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA")
    assert f"nvidia/cuda:{torch.version.cuda}." in FILE.read_text()


def test_the_image_does_not_run_as_root(stages):
    user = of(stages[-1], "USER")[-1]
    assert user.split(":")[0] not in ("root", "0")
    last = max(index for index, (word, _) in enumerate(stages[-1]) if word in ("RUN", "COPY", "WORKDIR"))
    assert ("USER", user) in stages[-1][last:]


def test_no_build_tool_is_left_in_the_image(stages):
    installed = " ".join(of(stages[-1], "RUN"))
    assert re.findall(r"apt-get install -y --no-install-recommends ([\w -]+?) +&&", installed) == ["python3"]
    assert "rm -rf /var/lib/apt/lists/*" in installed


def test_every_source_exists_and_is_let_through_to_the_build(stages):
    passed = [
        line[1:] for line in Path(f"{FILE}.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    sources = [
        source
        for stage in stages
        for rest in of(stage, "COPY")
        if "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {"Makefile", "constraints.txt", "docker/dagster.yaml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in passed), source


def test_python_is_installed_by_a_target_of_the_makefile(stages):
    (target,) = [
        rest.removeprefix("make ")
        for stage in stages
        for rest in of(stage, "RUN")
        if "make " in rest and "apt" not in rest
    ]
    shown = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert (
        ".venv/bin/python -m pip install --no-cache-dir -c constraints.txt '.[k8s,postgres,ray]'"
        in shown.stdout
    )
    assert not any("pip install" in rest for stage in stages for rest in of(stage, "RUN"))


def test_what_is_run_is_what_compose_runs(stages):
    from vdm_pipeline_tests.services.compose import compose

    (command,) = of(stages[-1], "CMD")
    assert json.loads(command) == compose(DAGSTER_POSTGRES_PASSWORD="x")["services"]["webserver"]["command"]
    (home,) = of(stages[-1], "WORKDIR")
    assert f"DAGSTER_HOME={home} " in of(stages[-1], "ENV")[0]
