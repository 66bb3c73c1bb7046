"""`make demo` installs what a run needs, and the package works without its extras."""

import ast
import importlib.metadata as metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vdm_pipeline_tests.defs.console.terminal import run_in_terminal
from vdm_pipeline_tests.paths import ROOT

PACKAGE = ROOT / "vdm_pipeline"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
EXTRAS = {
    canonicalize_name(Requirement(line).name)
    for extra in ("k8s", "postgres", "ray")
    for line in PROJECT["optional-dependencies"][extra]
}
NOT_IMPORTED = {
    "dagster-dg-cli": "the command dg",
    "dagster-webserver": "the UI that the command dagster dev starts",
    "medmnist": "its table of data sets",
    "tabulate": "pandas' to_markdown",
}
IMPORT_ALL = """
import importlib, pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import vdm_pipeline
names = [module.name for module in pkgutil.walk_packages(vdm_pipeline.__path__, "vdm_pipeline.")]
for name in names:
    if not name.startswith("vdm_pipeline.embedded.training"):
        importlib.import_module(name)
print(len(names))
"""


def imported_modules() -> set[str]:
    """Top-level names of all modules that the package imports, also inside functions."""
    names: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - {"vdm_pipeline"} - sys.stdlib_module_names


def needed_by(names: set[str]) -> set[str]:
    """Distributions with everything that they require in this environment, optional parts as requested."""
    found: set[str] = set()
    waiting = [(name, frozenset()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        found.add(name)
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if any(not needed.marker or needed.marker.evaluate({"extra": e}) for e in {"", *extras}):
                child = (canonicalize_name(needed.name), frozenset(needed.extras))
                if child[0] not in found:
                    waiting.append(child)
    return found


def test_core_dependencies_are_what_the_package_imports():
    distributions = metadata.packages_distributions()
    imported = {canonicalize_name(distributions[name][0]) for name in imported_modules()}
    assert imported - EXTRAS == CORE - set(NOT_IMPORTED)


def test_extras_are_no_part_of_the_core():
    assert not EXTRAS & needed_by(CORE & {canonicalize_name(d.name) for d in metadata.distributions()})


def test_every_module_imports_without_the_packages_of_the_extras():
    core = needed_by(CORE & {canonicalize_name(d.name) for d in metadata.distributions()})
    owners = metadata.packages_distributions().items()
    blocked = {module for module, names in owners if not core & set(map(canonicalize_name, names))} - {
        "vdm_pipeline",
        "vdm_pipeline_tests",
    }
    assert {"ray", "kubernetes", "dagster_postgres", "pytest"} <= blocked
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL.format(blocked=blocked)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) > 100


def dry_run(target: str, folder: Path = ROOT, *options: str) -> list[str]:
    """The pip commands that make would run."""
    make = ["make", "--dry-run", "-f", str(ROOT / "Makefile"), *options, target]
    output = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout
    return [line for line in output.splitlines() if "pip install -c" in line]


@pytest.mark.parametrize(
    ("target", "package"),
    [
        ("install", "."),
        ("demo", "."),
        ("run", "."),
        ("ui", "."),
        ("install-dev", ".[dev]"),
        ("test", ".[dev]"),
        ("check", ".[dev]"),
    ],
)
def test_only_the_targets_for_contributors_install_the_tools(target, package):
    command = f".venv/bin/python -m pip install -c constraints.txt -e '{package}'"
    assert dry_run(target, ROOT, "--always-make") == [command]


def test_an_installation_with_the_tools_serves_a_run_too(tmp_path):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.installed").touch()
    assert dry_run("demo", tmp_path) == []
    assert len(dry_run("test", tmp_path)) == 1
    recipe = ["make", "-f", str(ROOT / "Makefile"), "install-dev", "PYTHON=true", "BIN=bin"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to("/bin/true")
    (tmp_path / ".venv/.installed").unlink()
    subprocess.run(recipe, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert dry_run("demo", tmp_path) == dry_run("test", tmp_path) == []


def fake_python(folder: Path) -> str:
    """Options of make for a Python that only prints ``PIP_QUIET`` and its arguments."""
    (folder / "python").write_text('#!/bin/sh\necho "quiet=$PIP_QUIET" "$@"\n')
    (folder / "python").chmod(0o755)
    (folder / ".venv").mkdir()
    return f"PYTHON=true BIN={folder}"


def test_an_installation_into_a_file_or_pipe_is_one_line(tmp_path):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    make = f"{shutil.which('make')} -s -f {ROOT / 'Makefile'} {fake_python(tmp_path)} install-dev"
    environment = {key: value for key, value in os.environ.items() if key != "PIP_QUIET"}
    options = {"cwd": tmp_path, "env": environment, "check": True, "timeout": 60}
    piped = subprocess.run(make.split(), capture_output=True, text=True, **options).stdout.splitlines()
    install = "-m pip install -c constraints.txt -e .[dev]"
    assert piped[1:] == ["Installing '.[dev]' with constraints.txt into .venv", f"quiet=1 {install}"]
    (tmp_path / ".venv/.installed-dev").unlink()
    terminal = run_in_terminal(make.split(), tmp_path, environment)
    assert terminal.lines[1:] == [f"quiet= {install}"]


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel without content."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_pinned_versions_admit_the_cpu_build_and_pip_prefers_it(tmp_path):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines)
    for name in ("torch", "torchvision"):
        write_wheel(tmp_path, name, versions[name])
        write_wheel(tmp_path, name, f"{versions[name]}+cpu")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index"]
    result = subprocess.run(
        [*pip, "--find-links", str(tmp_path), "-c", "constraints.txt", "torch", "torchvision"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert all(f"{name}-{versions[name]}+cpu" in result.stdout for name in ("torch", "torchvision"))
