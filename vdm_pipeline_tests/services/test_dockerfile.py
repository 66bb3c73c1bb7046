"""The Dockerfile passes a linter, is pinned, does not use root, and installs with the Makefile."""

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
    """Instructions and their arguments by stage; the first list is what precedes the first FROM."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    parsed: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parsed.append([])
        parsed[-1].append((word, rest.strip()))
    return parsed


def arguments(instructions: list[tuple[str, str]], word: str) -> list[str]:
    """Arguments of every instruction of one kind."""
    return [rest for name, rest in instructions if name == word]


def test_hadolint_finds_nothing():
    result = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), FILE], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_stage_uses_one_pinned_base(stages):
    (base,) = arguments(stages[0], "ARG")
    assert re.fullmatch(r"BASE=debian:[\w.-]+-slim@sha256:[0-9a-f]{64}", base)
    assert [rest.split()[0] for stage in stages[1:] for rest in arguments(stage, "FROM")] == [
        "${BASE}",
        "${BASE}",
    ]


def test_image_does_not_run_as_root(stages):
    user = arguments(stages[-1], "USER")[-1]
    assert user.split(":")[0] not in ("root", "0")
    last = max(index for index, (word, _) in enumerate(stages[-1]) if word in ("RUN", "COPY", "WORKDIR"))
    assert ("USER", user) in stages[-1][last:]


def test_image_contains_no_build_tool(stages):
    installed = " ".join(arguments(stages[-1], "RUN"))
    assert re.findall(r"apt-get install -y --no-install-recommends ([\w -]+?) +&&", installed) == [
        "ca-certificates python3"
    ]
    assert "rm -rf /var/lib/apt/lists/*" in installed


def test_every_source_exists_and_is_in_the_build_context(stages):
    lines = Path(f"{FILE}.dockerignore").read_text().splitlines()
    included = [line[1:] for line in lines if line.startswith("!")]
    sources = [
        source
        for stage in stages
        for rest in arguments(stage, "COPY")
        if "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {"Makefile", "constraints.txt", "docker/dagster.yaml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in included), source


def test_python_packages_are_installed_by_the_makefile(stages):
    (target,) = [
        rest.removeprefix("make ")
        for stage in stages
        for rest in arguments(stage, "RUN")
        if "make " in rest and "apt" not in rest
    ]
    dry_run = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert dry_run.returncode == 0, dry_run.stderr
    assert (
        ".venv/bin/python -m pip install --no-cache-dir -c constraints.txt '.[k8s,postgres,ray]'"
        in dry_run.stdout
    )
    assert ".venv/bin/python -m pip uninstall --yes pip triton" in dry_run.stdout
    assert not any("pip install" in rest for stage in stages for rest in arguments(stage, "RUN"))


def test_command_is_that_of_compose(stages):
    from vdm_pipeline_tests.services.compose import compose

    (command,) = arguments(stages[-1], "CMD")
    assert json.loads(command) == compose(DAGSTER_POSTGRES_PASSWORD="x")["services"]["webserver"]["command"]
    (home,) = arguments(stages[-1], "WORKDIR")
    assert f"DAGSTER_HOME={home} " in arguments(stages[-1], "ENV")[0]
