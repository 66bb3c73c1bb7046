"""The source tree's own checks: each import rule fails when broken; hooks and workflow are valid."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vdm_pipeline_tests.code_counts import count, phrases
from vdm_pipeline_tests.paths import ROOT

ONE_WAY, STEPS = "Imports run one way through the layers", "A stage imports only earlier stages"
BROKEN_RULES = [
    ("io/disk.py", "from vdm_pipeline.settings import Profile", ONE_WAY),
    ("incremental/store.py", "import vdm_pipeline.stages", ONE_WAY),
    ("helpers.py", "import dagster", ONE_WAY),
    ("stages/models/hub.py", "import vdm_pipeline.stages.report.page", STEPS),
    ("stages/newstep/__init__.py", "import vdm_pipeline.stages.report.page", STEPS),
    ("stages/data/archive.py", "import vdm_pipeline.graph", "do not import the graph"),
    ("embedded/training/data.py", "import vdm_pipeline.incremental.store", "do not import the graph"),
    ("graph.py", "import vdm_pipeline.io.disk", "The graph imports only settings"),
    ("definitions.py", "import vdm_pipeline.stages.training.loop", "definitions only assembles"),
    ("stages/training/loop.py", "import dagster", "Only defs imports Dagster"),
    ("stages/training/loop.py", "def f():\n    import dagster_shared as d", "Only defs imports Dagster"),
    ("incremental/staleness.py", "import torch", "staleness decision import no torch"),
    ("incremental/store.py", "import safetensors.torch", "staleness decision import no torch"),
    ("definitions.py", "import torch", "definitions imports no torch itself"),
]


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a copy of the package."""
    command = [tool("lint-imports"), "--no-logo", "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The package's Python files and the contracts."""
    for path in (ROOT / "vdm_pipeline").rglob("*.py"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


@pytest.mark.parametrize(("file", "line", "rule"), BROKEN_RULES)
def test_an_import_against_a_rule_fails(copy, file, line, rule):
    path = copy / "vdm_pipeline" / file
    path.parent.mkdir(exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{before}\n\n{line}\n", encoding="utf-8")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [found for found in result.stdout.splitlines() if found.endswith("BROKEN")]
    assert any(rule in found for found in broken), result.stdout


def test_the_package_keeps_the_rules(copy):
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("what", ["long lines", "words", "upward imports", "folder cycles", "module cycles"])
def test_the_source_tree_stays_readable(what):
    counts = count(ROOT, [])
    assert len(counts["files"]) > 300
    assert counts[what] == []


def test_prose_has_no_phrase_of_the_private_vocabulary():
    assert phrases(ROOT) == []


def test_files_and_functions_of_the_package_stay_short():
    counts = count(ROOT, ["vdm_pipeline"])
    assert [place.split(":")[0] for place in counts["long files"]] == ["vdm_pipeline/graph.py"], (
        "the one table"
    )
    assert counts["long functions"] == []


def test_private_words_are_found(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "x.py").write_text("def told():\n    verdict = 1\n    return verdict\n")
    words = [place.split(": ")[1] for place in count(tmp_path, [])["words"]]
    assert words == ["told (told)", "verdict (verdict)"]


def test_the_workflow_and_the_hooks_are_valid():
    workflow, hooks = ROOT / ".github/workflows/ci.yml", ROOT / ".pre-commit-config.yaml"
    schema = [tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(workflow)]
    subprocess.run(schema, check=True)
    subprocess.run([tool("pre-commit"), "validate-config", str(hooks)], check=True)


def test_the_workflow_and_the_hooks_run_targets_of_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("make")]
    commands += [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert {"make check", "make test-all", "make lint", "make types", "make imports"} <= set(commands)
    for command in commands:
        subprocess.run(["make", "-n", *command.split()[1:2]], cwd=ROOT, check=True, capture_output=True)
