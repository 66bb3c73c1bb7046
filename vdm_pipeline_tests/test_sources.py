"""Unsafe calls that the package must not contain, and settings of the files beside it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain

import pytest
import yaml

from vdm_pipeline_tests.paths import ROOT

PACKAGE = sorted((ROOT / "vdm_pipeline").rglob("*.py"))
PICKLE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
CODE_RUNNERS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Every call: its dotted name and its keyword arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg or "**": keyword.value for keyword in node.keywords}


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def reads_pickle(tree: ast.AST) -> list[str]:
    """Imports and calls that could read a pickle."""
    places = [name for name in imported_modules(tree) if name.split(".")[0] in PICKLE_MODULES]
    for name, arguments in calls(tree):
        unsafe_torch = name == "torch.load" and not is_true(arguments.get("weights_only"))
        unsafe_numpy = name in ("np.load", "numpy.load") and not is_false(arguments.get("allow_pickle"))
        allows_pickle = name.endswith("read_pickle") or is_true(arguments.get("allow_pickle"))
        if unsafe_torch or unsafe_numpy or allows_pickle:
            places.append(name)
    return places


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Names of all imported modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def runs_text(tree: ast.AST) -> list[str]:
    """Calls that could run a text as Python or in a shell."""
    return [
        name
        for name, arguments in calls(tree)
        if name in CODE_RUNNERS or "shell" in arguments or "trust_remote_code" in arguments
    ]


def loads_unpinned(tree: ast.AST) -> list[str]:
    """Loaders that could query a hub instead of a folder, or read another format than safetensors."""
    return [
        name
        for name, arguments in calls(tree)
        if name.endswith(".from_pretrained") and not is_pinned(name, arguments)
    ]


def is_pinned(name: str, arguments: dict[str, ast.expr]) -> bool:
    """Whether a loader reads a local folder and, if it loads weights, only safetensors."""
    has_weights = not any(part in name for part in ("Tokenizer", "Scheduler", "Processor"))
    is_local = is_true(arguments.get("local_files_only"))
    return is_local and (not has_weights or is_true(arguments.get("use_safetensors")))


BAD = {
    reads_pickle: [
        "import pickle",
        "from joblib import load",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "pd.read_pickle(p)",
        "np.lib.format.read_array(f, allow_pickle=True)",
    ],
    runs_text: [
        "eval(t)",
        "exec(t)",
        "os.system(t)",
        "subprocess.run(t, shell=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
    ],
    loads_unpinned: [
        "AutoModel.from_pretrained(p, local_files_only=True)",
        "AutoTokenizer.from_pretrained(p, use_safetensors=True)",
    ],
}


@pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)
def test_every_rule_finds_its_bad_examples(rule):
    assert all(rule(ast.parse(text)) for text in BAD[rule])


@pytest.mark.parametrize("rule", BAD, ids=lambda rule: rule.__name__)
def test_package_has_no_unsafe_call(rule):
    places = {
        path.relative_to(ROOT).as_posix(): rule(ast.parse(path.read_text(encoding="utf-8")))
        for path in PACKAGE
        if "embedded/training" not in path.as_posix()
    }
    assert len(places) > 80
    assert {path: names for path, names in places.items() if names} == {}


def test_telemetry_of_dagster_is_off():
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    assert settings["telemetry"] == {"enabled": False}
    assert settings["nux"] == {"enabled": False}


def test_ui_is_bound_to_this_machine():
    (line,) = re.findall(r"^\t\$\(BIN\)/dg dev .*$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert " -h 127.0.0.1 " in line and not re.search(r"0\.0\.0\.0|--host", line)


def test_every_dependency_is_pinned_once():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    pinned = [normalized_name(line) for line in lines]
    assert sorted(set(pinned)) == sorted(pinned)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    required = {normalized_name(requirement) for requirement in requirements}
    assert required - {"vdm-pipeline"} <= set(pinned)


def normalized_name(requirement: str) -> str:
    """The name of a distribution in the form for comparisons."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>! \[]", requirement)[0]).lower()


def test_installation_runs_no_code_of_the_project():
    assert not (ROOT / "setup.py").exists() and not (ROOT / "setup.cfg").exists()
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert built["build-system"] == {"requires": ["hatchling>=1.27"], "build-backend": "hatchling.build"}
    assert "hooks" not in str(built["tool"]["hatch"])
