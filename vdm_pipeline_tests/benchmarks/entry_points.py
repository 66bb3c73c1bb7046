"""Cost of loading and of skipping: ``python -m vdm_pipeline_tests.benchmarks.entry_points [--rounds 5]``.

Compares the project with an empty one, which has as many assets with the same dependencies, instance and
executor. Its assets do nothing and have no checks. Two commands alternate between both projects: ``dagster
asset materialize --select '*report'`` with nothing to do, and ``dagster definitions validate``. In a third
row, the empty project uses Dagster's default executor, one process per step.
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
from vdm_pipeline_tests.paths import ROOT, make_project
from vdm_pipeline_tests.profiles import shrink, write_profile

DAGSTER = str(Path(sys.executable).with_name("dagster"))
EMPTY = """
import dagster as dg

def make(name, deps):
    @dg.asset(name=name, deps=deps)
    def asset(): ...
    return asset

defs = dg.Definitions([make(name, deps) for name, deps in {stages}.items()], executor=dg.{executor}_executor)
"""


def write_empty_project(folder: Path, executor: str) -> list[str]:
    """Write the empty project; returns the arguments that load it."""
    stages = {name: list(stage.inputs) for name, stage in STAGES.items()}
    (folder / f"empty_{executor}.py").write_text(EMPTY.format(stages=stages, executor=executor))
    return ["-m", f"empty_{executor}"]


def seconds(folder: Path, command: list[str]) -> float:
    """Wall time of a command that must succeed."""
    unset = ("DAGSTER_HOME", "VDM_FORCE", "VDM_ROOT")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"PYTHONPATH": str(ROOT), "VDM_PROFILE": "small.toml"}
    start = time.perf_counter()
    result = subprocess.run([DAGSTER, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return time.perf_counter() - start


def compare(title: str, commands: dict[str, tuple[Path, list[str]]], rounds: int) -> None:
    """Print the median time of each command, and the ratio of ours to it. The commands alternate."""
    for folder, command in commands.values():
        seconds(folder, command)  # warms the disk's cache, and materializes what the next runs skip
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (folder, command) in commands.items():
            times[name].append(seconds(folder, command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    columns = [f"{name} {value:.2f} s ({medians['ours'] / value:.2f}x)" for name, value in medians.items()]
    print(f"{title}: {', '.join(columns)}", flush=True)


def main() -> None:
    """Compare both commands, and the empty project with the default executor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        ours, empty = Path(name) / "ours", Path(name) / "empty"
        for folder in (ours, empty):
            (folder / "data").mkdir(parents=True)
        make_project(ours)
        shutil.copy(ROOT / "dagster.yaml", empty)
        write_profile(ours / "small.toml", shrink(load_profile("demo")))
        in_process = write_empty_project(empty, "in_process")
        multiprocess = write_empty_project(empty, "multiprocess")
        validate, run = ["definitions", "validate"], ["asset", "materialize", "--select", "*report"]
        commands = {"ours": (ours, validate), "empty": (empty, [*validate, *in_process])}
        compare("validate", commands, rounds)
        commands = {"ours": (ours, run), "empty": (empty, [*run, *in_process])}
        compare("nothing to do", commands, rounds)
        commands = {"ours": (ours, run), "empty": (empty, [*run, *multiprocess])}
        compare("one process per step", commands, 1)


if __name__ == "__main__":
    main()
