"""What re-use and loading cost, beside an empty project: ``python -m vdm_pipeline_tests.benchmarks.entry_points [--rounds 5]``.

The empty project has as many assets, with the same dependencies, that do nothing, no check, the same instance and executor.
Two commands take turns on both: ``dagster asset materialize --select '*report'`` when nothing changed, and ``dagster
definitions validate``. A third row has Dagster's default executor, a process a step, run the empty project.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vdm_pipeline.graph import STAGES
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.conftest import shrink, write_profile
from vdm_pipeline_tests.paths import ROOT

DAGSTER = str(Path(sys.executable).with_name("dagster"))
EMPTY = """
import dagster as dg

def make(name, deps):
    @dg.asset(name=name, deps=deps)
    def made(): ...
    return made

defs = dg.Definitions([make(name, deps) for name, deps in {stages}.items()], executor=dg.{executor}_executor)
"""


def empty(folder: Path, executor: str) -> list[str]:
    """Write the empty project; how Dagster is told of it."""
    stages = {name: list(stage.inputs) for name, stage in STAGES.items()}
    (folder / f"empty_{executor}.py").write_text(EMPTY.format(stages=stages, executor=executor))
    return ["-m", f"empty_{executor}"]


def seconds(folder: Path, command: list[str]) -> float:
    """Wall clock of a command that must succeed."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DAGSTER_HOME", "VDM_FORCE", "VDM_ROOT")
    }
    begun = time.perf_counter()
    environment |= {"PYTHONPATH": str(ROOT), "VDM_PROFILE": "small.toml"}
    done = subprocess.run([DAGSTER, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return time.perf_counter() - begun


def compare(what: str, commands: dict[str, tuple[Path, list[str]]], rounds: int) -> None:
    """Medians of commands that take turns, and ours against each of the others."""
    for folder, command in commands.values():
        seconds(folder, command)  # once to warm the disk's cache, and to make what is to be re-used
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (folder, command) in commands.items():
            taken[name].append(seconds(folder, command))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    print(
        f"{what}: "
        + ", ".join(
            f"{name} {value:.2f} s ({medians['ours'] / value:.2f}x)" for name, value in medians.items()
        ),
        flush=True,
    )


def main() -> None:
    """Both commands, side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        ours, other = Path(name) / "ours", Path(name) / "empty"
        for folder in (ours, other):
            (folder / "data").mkdir(parents=True)
            shutil.copy(ROOT / "dagster.yaml", folder)
        write_profile(ours / "small.toml", shrink(load_profile("demo")))
        module = ["-m", "vdm_pipeline.definitions"]
        in_process, multiprocess = (empty(other, kind) for kind in ("in_process", "multiprocess"))
        compare(
            "validate",
            {
                "ours": (ours, ["definitions", "validate", *module]),
                "empty": (other, ["definitions", "validate", *in_process]),
            },
            rounds,
        )
        run = ["asset", "materialize", "--select", "*report"]
        compare(
            "nothing to do", {"ours": (ours, [*run, *module]), "empty": (other, [*run, *in_process])}, rounds
        )
        compare(
            "a process a step",
            {"ours": (ours, [*run, *module]), "empty": (other, [*run, *multiprocess])},
            1,
        )


if __name__ == "__main__":
    main()
