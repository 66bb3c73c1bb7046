"""Work killed again and again: ``python -m vdm_pipeline_tests.benchmarks.kills WORK [--kills 20] [--signal SIGKILL]``.

A child process works, and is killed at a random moment; the next child goes on. What stands under its final name at a kill
must have the bytes that undisturbed work gives it; when a child reaches the end, all of it must. Then it starts again in a new
folder, until so many kills were done. The children are forked from a process that has loaded everything and computed nothing,
so that the moments fall into the work and not into imports; every fourth kill waits for a file that is being written.

``training``: 25 steps of the embedded model with a checkpoint at every step. ``generation``: 64 images of it, two at a time.
``whole``: the whole graph with the smallest profile, as Dagster runs it; its stages are not timed, as times differ.
"""

import argparse
import importlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from vdm_pipeline.defs import materialize as materializing
from vdm_pipeline.io.atomic import LEFTOVER
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.evaluation import evaluate  # noqa: F401  (this and what follows: loaded before the fork)
from vdm_pipeline.stages.generation import launch
from vdm_pipeline.stages.report import lineage, page  # noqa: F401
from vdm_pipeline.stages.training import loop, running_means, session
from vdm_pipeline.stages.training import sample_sheet as samples
from vdm_pipeline_tests.conftest import shrink
from vdm_pipeline_tests.defs.assets import graph
from vdm_pipeline_tests.stages.generation import jobs as sampling_jobs
from vdm_pipeline_tests.stages.training import jobs as training_jobs

PROFILE = shrink(load_profile("demo"))
LIBRARIES = (
    *(
        "open_clip",
        "cleanlab.filter",
        "peft",
        "sklearn.linear_model",
        "sklearn.model_selection",
        "skimage.feature",
    ),
    *(
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
        "torch.utils.flop_counter",
        "torchmetrics.image.fid",
    ),
    *(
        "diffusers.loaders",
        "diffusers.models.unets.unet_2d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
    ),
)
"""What the stages import where they use it; a child would take longer to load them than to work."""
LASTING = ("asset", "fingerprint", "code_version", "data_version", "inputs", "files", "settings")
"""Fields of a record that are the same in every run; the others tell what it cost."""


@dataclass(frozen=True)
class Work:
    """``run`` does the work in a folder or goes on with it; ``made`` are the bytes that stand under their final names."""

    run: Callable[[Path], None]
    made: Callable[[Path], dict[str, bytes]]


def train(root: Path) -> None:
    """A small training."""
    steps, often = {"max_train_steps": 25}, {"checkpoint_every": 1, "log_every": 20}
    loop.train(training_jobs.make_job(PROFILE, root, training=steps, execution=often), training_jobs.silent)


def generate(root: Path) -> None:
    """A small generation."""
    job = sampling_jobs.make_job(sampling_jobs.with_generation(PROFILE, per_class=32), root, batch=2)
    launch.generate(job, print, lambda *counts: None)


def make_all(root: Path) -> None:
    """The whole graph, with an instance of its own; nothing in it knows the time."""
    (root / "data").mkdir(exist_ok=True)
    materializing.time = SimpleNamespace(perf_counter=lambda: 0.0)
    materializing.peak_resident_mb = lambda: 0.0
    running_means.RunningMeans.steps_per_s = lambda means, step: 1.0
    lineage.images_per_second = lambda record: None
    session.peak_flops, loop.peak_memory_mb = lambda *_: 1e9, lambda *_: 0.0
    samples.STEPS = 2
    with graph.persistent_instance(root / "home") as instance:
        result = graph.materialize(PROFILE, root, instance=instance)
    assert result.success, graph.error_message(result)


def standing(root: Path) -> dict[str, bytes]:
    """Every file of a project that is not hidden, and what lasts of every record."""
    shown = [path for top in ("data", "results") for path in (root / top).rglob("*") if path.is_file()]
    files = {
        str(path.relative_to(root)): path
        for path in shown
        if not any(part[0] == "." for part in path.relative_to(root).parts)
    }
    records = {
        path.name: json.loads(path.read_text())
        for path in (root / "results/.manifests").glob("*.json")
        if path.suffixes == [".json"]
    }
    persistent_instance = {
        name: json.dumps([record[field] for field in LASTING]).encode() for name, record in records.items()
    }
    return {name: path.read_bytes() for name, path in files.items()} | persistent_instance


def weights(root: Path) -> dict[str, bytes]:
    """The adapter, if it is there."""
    path = root / "out" / LORA_WEIGHTS
    return {LORA_WEIGHTS: path.read_bytes()} if path.exists() else {}


WORKS = {
    "training": Work(train, weights),
    "generation": Work(generate, sampling_jobs.contents),
    "whole": Work(make_all, standing),
}


def child(work: Work, root: Path) -> int:
    """Fork a process that works, and return its id."""
    root.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work.run(root)
            status = 0
        finally:
            os._exit(status)
    return pid


def undisturbed(work: Work, root: Path) -> tuple[dict[str, bytes], float]:
    """What is made when nothing is killed, and its seconds."""
    begun = time.perf_counter()
    assert os.waitpid(child(work, root), 0)[1] == 0, "the undisturbed work failed"
    return work.made(root), time.perf_counter() - begun


def writing(folder: Path) -> bool:
    """Whether a file is begun and has not its name yet."""
    try:
        return any(LEFTOVER.search(path.name) or path.name == "new.safetensors" for path in folder.rglob("*"))
    except FileNotFoundError:  # a folder that was moved to its place in the meantime
        return False


def wait_for_a_write(folder: Path) -> None:
    """Until a file is being written, or a quarter of a second has passed."""
    until = time.perf_counter() + 0.25
    while time.perf_counter() < until and not writing(folder):
        pass


def ended(pid: int, within: float) -> int | None:
    """The child's status, or None if it is still at work after so many seconds."""
    until = time.perf_counter() + within
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found or time.perf_counter() >= until:
            return status if found else None
        time.sleep(0.01)


def kill_and_go_on(work: Work, kills: int, kind: str) -> int:
    """Until so many kills were done and the last work is finished; how many things were not as they should be."""
    rng, done, inside, finished, wrong = random.Random(0), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        whole, seconds = undisturbed(work, Path(name) / "whole")
        print(f"undisturbed: {seconds:.1f} s, {len(whole)} files and records", flush=True)
        while done < kills or not finished:
            root = Path(name) / f"run{finished}"
            while True:
                pid = child(work, root)
                status = ended(pid, rng.uniform(0.1, seconds) if done < kills else math.inf)
                if status is None and done % 4 == 3:
                    wait_for_a_write(root)
                    status = ended(pid, 0)
                if status is not None:
                    assert status == 0, "work that was gone on with failed"
                    break
                os.kill(pid, getattr(signal, kind))
                os.waitpid(pid, 0)
                done += 1
                inside += writing(root)
                wrong += differing(work.made(root), whole, "at a kill")
            finished += 1
            wrong += differing(work.made(root), whole, "at the end") + (
                work.made(root).keys() != whole.keys()
            )
            print(
                f"{done} kills, {inside} of them inside a write; {finished} finished, {wrong} with other bytes",
                flush=True,
            )
    return wrong


def differing(made: dict[str, bytes], whole: dict[str, bytes], when: str) -> int:
    """How many things have other bytes than in undisturbed work; they are named."""
    others = [name for name, content in made.items() if whole.get(name) != content]
    if others:
        print(f"{when}: {', '.join(others)}", flush=True)
    return len(others)


def main() -> int:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", default="SIGKILL")
    asked = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    return int(kill_and_go_on(WORKS[asked.work], asked.kills, asked.signal) > 0)


if __name__ == "__main__":
    sys.exit(main())
