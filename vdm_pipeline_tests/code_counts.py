"""Counts of the source tree: ``python -m vdm_pipeline_tests.code_counts [ROOT] [PATH ...]``.

Sizes of files and functions, long lines, upward imports, import cycles, and words to avoid.
"""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_LINES, MAX_FUNCTION, MAX_COLUMNS = 250, 40, 110

WORDS = {
    *("told", "untold", "asked", "stands", "anew", "late", "spreads", "gate", "gates", "verdict", "verdicts"),
    *(
        "stored",
        "wanted",
        "tried",
        "made",
        "finding",
        "findings",
        "mend",
        "mends",
        "shot",
        "shots",
        "painter",
    ),
    *("paint", "fitting", "refuse", "mixed", "deviation", "draws", "reach", "compared", "fresh", "turn"),
    *("tune", "sure", "hushed", "door", "doors", "signal", "works"),
}
"""Words of the project's first, private vocabulary."""
NAMES_OF_OTHERS = ("ZeroShot", "zero_shot", "signal")
"""Names that contain one of these words and are the field's own, or the operating system's."""
PHRASES = (
    r"\bis (told|asked|made)\b|\b(of now|at rest|goes? on|going on|gone on|by itself|anew|re-used)\b"
    r"|\bstands\b(?! for)|(?<!there )\b(is|are) no (?!better|faster|more\b)[a-z]+[,.; ]|\bmend(s|ed)?\b"
)
"""Phrases of that vocabulary in prose."""
PROSE = (
    "*.py",
    "*.md",
    "*.toml",
    "*.yaml",
    "*.yml",
    "*.j2",
    "*.ipynb",
    "Makefile",
    "docker",
    ".ci",
    ".github",
)
EXEMPT = {"verdict": "verdicts", "verdicts": "verdicts"}
"""A verdict is a row at the top of the report, where the word is the usual one."""

LAYERS = {
    "definitions": {"defs", "graph", "incremental", "settings", "errors"},
    "defs": {"defs", "graph", "incremental", "stages", "io", "settings", "errors"},
    "incremental": {"incremental", "graph", "io", "settings", "errors"},
    "graph": {"settings", "errors"},
    "stages": {"stages", "io", "settings", "errors"},
    "io": {"io", "errors"},
    "settings": {"settings", "errors"},
    "errors": set(),
    "embedded": {"embedded", "stages", "io", "settings", "errors"},
}


def python_files(root: Path, paths: list[str]) -> list[Path]:
    """Tracked and new Python files."""
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "--", *(paths or ["*.py"])]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [root / name for name in names if name.endswith(".py") and (root / name).is_file()]


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods, also nested ones."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, without decorators."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that the file itself names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def private_words(name: str, path: Path) -> list[str]:
    """Words of the private vocabulary in an identifier or a file's name."""
    for other in NAMES_OF_OTHERS:
        name = name.replace(other, "")
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    return [word for word in words if word in WORDS and EXEMPT.get(word, " ") not in str(path)]


def phrases(root: Path) -> list[str]:
    """Places of `PHRASES` in all text files, this one excepted."""
    command = ["git", "-C", str(root), "grep", "-nIiP", PHRASES, "--", *PROSE]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in lines if "code_counts.py" not in line.split(":")[0]]


def package_imports(root: Path) -> dict[str, set[str]]:
    """What each module of the package imports of it, by dotted name without the package's."""
    found: dict[str, set[str]] = {}
    for path in python_files(root, ["vdm_pipeline"]):
        module = ".".join(path.relative_to(root).with_suffix("").parts[1:]).removesuffix(".__init__")
        imported = found.setdefault(module, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported.update(_imported_modules(node))
    return found


def _imported_modules(node: ast.AST) -> list[str]:
    """Modules of the package that an import statement names; names of functions are dropped later."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name.removeprefix("vdm_pipeline.") for name in names if name.startswith("vdm_pipeline.")]


def module_cycles(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others, also inside functions."""
    direct = {module: {other for other in others if other in imports} for module, others in imports.items()}
    reachable = {module: set(others) for module, others in direct.items()}
    for middle in direct:
        for module in direct:
            if middle in reachable[module]:
                reachable[module] |= reachable[middle]
    return sorted(module for module in direct if module in reachable[module])


def upward(imports: dict[str, set[str]]) -> list[str]:
    """Imports against the layers."""
    arrows = ((module, other) for module, others in imports.items() for other in others if other in imports)
    return [
        f"{module} -> {other}"
        for module, other in arrows
        if other.split(".")[0] not in LAYERS.get(module.split(".")[0], set(LAYERS))
    ]


def folder_cycles(imports: dict[str, set[str]]) -> list[str]:
    """Pairs of folders that import each other, at the depth of ``stages/training``."""

    def folder(module: str) -> str:
        depth = 2 if module.startswith("stages.") else 1
        return ".".join(module.split(".")[:depth])

    arrows = {
        (folder(module), folder(other))
        for module, others in imports.items()
        for other in others
        if other in imports and folder(module) != folder(other)
    }
    return sorted(f"{a} <-> {b}" for a, b in arrows if a < b and (b, a) in arrows)


def count(root: Path, paths: list[str]) -> dict[str, list[str]]:
    """Places by what was counted."""
    found: dict[str, list[str]] = {
        "files": [],
        "long files": [],
        "long functions": [],
        "long lines": [],
        "words": [],
    }
    lengths = []
    for path in python_files(root, paths):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root)
        tree = ast.parse(text)
        found["files"].append(str(name))
        lines = text.splitlines()
        found["long files"] += [f"{name}: {len(lines)}"] if len(lines) > MAX_LINES else []
        found["long lines"] += [f"{name}:{i}" for i, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]
        for node in functions(tree):
            lengths.append(length(node))
            found["long functions"] += (
                [f"{name}: {node.name} {length(node)}"] if length(node) > MAX_FUNCTION else []
            )
        for line, identifier in [*identifiers(tree), (1, path.stem)]:
            found["words"] += [
                f"{name}:{line}: {identifier} ({word})" for word in private_words(identifier, name)
            ]
    found["functions"] = [f"{len(lengths)}, median {statistics.median(lengths or [0]):g} lines"]
    imports = package_imports(root)
    return found | {
        "upward imports": upward(imports),
        "folder cycles": folder_cycles(imports),
        "module cycles": module_cycles(imports),
    }


def main(arguments: list[str]) -> int:
    """Print the counts, and with paths also the places."""
    root = Path(arguments[0] if arguments else ".")
    found = count(root, arguments[1:])
    for what, places in found.items():
        print(f"{what}: {places[0] if what == 'functions' else len(places)}")
        if arguments[1:] or what in ("upward imports", "folder cycles", "module cycles"):
            print("".join(f"  {place}\n" for place in places if what not in ("files", "functions")), end="")
    found_phrases = phrases(root)
    print(f"phrases in prose: {len(found_phrases)}")
    if arguments[1:]:
        print("".join(f"  {place[:160]}\n" for place in found_phrases), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
