"""What the package's own code never does, found in its syntax trees; and what the files beside it say."""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain

import pytest

from vdm_pipeline_tests.paths import ROOT

PACKAGE = sorted((ROOT / "vdm_pipeline").rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Every call, by its dotted name, and its named arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg or "**": word.value for word in node.keywords}


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def unpickles(tree: ast.AST) -> list[str]:
    """What of the code could read a pickle."""
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in UNPICKLERS]
    for name, words in calls(tree):
        bad_torch = name == "torch.load" and not is_true(words.get("weights_only"))
        bad_numpy = name in ("np.load", "numpy.load") and not is_false(words.get("allow_pickle"))
        found += (
            [name]
            if bad_torch or bad_numpy or name.endswith("read_pickle") or is_true(words.get("allow_pickle"))
            else []
        )
    return found


def runs_text(tree: ast.AST) -> list[str]:
    """What of the code could run a text: Python's or a shell's."""
    return [
        name
        for name, words in calls(tree)
        if name in RUNNERS or "shell" in words or "trust_remote_code" in words
    ]


def loads_unpinned(tree: ast.AST) -> list[str]:
    """Loaders of the libraries that could ask a hub for more than a folder, or read another format than safetensors."""
    found = []
    for name, words in calls(tree):
        if name.endswith(".from_pretrained"):
            model = not any(part in name for part in ("Tokenizer", "Scheduler", "Processor"))
            whole = is_true(words.get("local_files_only")) and (
                not model or is_true(words.get("use_safetensors"))
            )
            found += [] if whole else [name]
    return found


BAD = {
    unpickles: [
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
def test_the_package_never_does_it(rule):
    assert all(rule(ast.parse(text)) for text in BAD[rule]), "the rule sees what it is to see"
    found = {
        path.relative_to(ROOT).as_posix(): rule(ast.parse(path.read_text(encoding="utf-8")))
        for path in PACKAGE
    }
    of_the_graph = {
        path: names for path, names in found.items() if names and "/embedded/training/" not in path
    }
    assert not of_the_graph
    assert len(found) > 80


def test_dagster_tells_nobody_that_it_runs():
    text = (ROOT / "dagster.yaml").read_text(encoding="utf-8")
    assert re.search(r"^telemetry:\n  enabled: false$", text, re.M) and re.search(
        r"^nux:\n  enabled: false$", text, re.M
    )


def test_the_ui_is_bound_to_this_machine():
    (line,) = re.findall(r"^\t\$\(DAGSTER\) dev .*$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert " -h 127.0.0.1 " in line and not re.search(r"0\.0\.0\.0|--host", line)


def test_every_dependency_is_pinned_once():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    pinned = [plain(line) for line in lines]
    assert sorted(set(pinned)) == sorted(pinned)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {
        plain(wish)
        for wish in [
            *project["dependencies"],
            *chain.from_iterable(project["optional-dependencies"].values()),
        ]
    }
    assert asked - {"vdm-pipeline"} <= set(pinned)


def plain(wish: str) -> str:
    """The name of a distribution, as names are compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>! \[]", wish)[0]).lower()


def test_installing_runs_nothing_of_ours():
    assert not (ROOT / "setup.py").exists() and not (ROOT / "setup.cfg").exists()
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert built["build-system"] == {"requires": ["setuptools>=77"], "build-backend": "setuptools.build_meta"}
    assert "cmdclass" not in built.get("tool", {}).get("setuptools", {})
