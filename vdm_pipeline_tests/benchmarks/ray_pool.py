"""Ray against the local engine: ``python -m vdm_pipeline_tests.benchmarks.ray_pool {label,generate}``.

The embedded models on two cores: one process with two threads, two processes that accelerate starts
(generation only), and two Ray workers with one thread each on a cluster that is started for the job. Each
runs in its own process, and they alternate. The time excludes Python's start and imports, and includes the
start of the cluster. Peak memory is that of the main process without its workers; for Ray it is also measured
with a tenth of the images.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.memory import peak_resident_mb
from vdm_pipeline.settings import Data, Profile, load_profile
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.generation.plan import main_arm, plan
from vdm_pipeline.stages.labelling.embedding_job import EmbeddingJob, embed_images
from vdm_pipeline.stages.models.pins import EMBEDDED

RAY = {"engine": "ray", "ray": {"workers": 2}}
ENGINES: dict[str, dict[str, Any]] = {
    "one process": {},
    "two processes": {"num_processes": 2},
    "Ray, two workers": RAY,
}
RENDERED = 1000
"""Different X-rays in the archive; they are repeated."""


def archive(path: Path, images: int) -> Path:
    """Write an archive of images of 64 pixels, unless it exists."""
    if not path.is_file():
        rendered = render(1, np.arange(RENDERED), np.arange(RENDERED) % 2 == 1, 64)
        counts = {"train": images - 128, "val": 64, "test": 64}
        arrays: dict[str, np.ndarray] = {}
        for split, n in counts.items():
            rows = np.arange(n) % RENDERED
            arrays[f"{split}_images"] = rendered[rows]
            arrays[f"{split}_labels"] = (rows % 2).astype(np.uint8)[:, None]
        write_npz(path, arrays)
    return path


def label(profile: Profile, folder: Path, images: int) -> float:
    """Seconds to embed the archive in the parent folder."""
    path = folder.parent / f"xrays_{images}.npz"
    own = {"channels": 1, "sha256": file_sha256(path), "licence": "none"}
    data = Data.model_validate({"dataset": "xrays", "size": 64, "source": "file", "own": own})
    out = folder / "embeddings"
    job = EmbeddingJob(path, data, profile.classes.names, EMBEDDED / "clip", out, profile.execution)
    start = time.perf_counter()
    embed_images(job, lambda line: None, lambda *counts: None)
    return time.perf_counter() - start


def generate_arm(profile: Profile, folder: Path, images: int) -> float:
    """Seconds to generate an arm."""
    generation = profile.generation.model_copy(update={"per_class": images // 2})
    arm = main_arm(profile, EMBEDDED / "sd", EMBEDDED / "lcm_lora", None)
    job = Job(
        arm=arm,
        samples=tuple(plan(profile.classes, generation)),
        folder=folder / "images",
        execution=profile.execution,
    )
    start = time.perf_counter()
    generate(job, lambda line: None, lambda *counts: None)
    return time.perf_counter() - start


JOBS = {"label": label, "generate": generate_arm}


def run_here(job: str, engine: str, folder: Path, images: int) -> dict[str, float]:
    """Run a job with an engine in this process."""
    values = load_profile("demo").model_dump(mode="json")
    values["execution"] |= ENGINES[engine]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        profile = Profile.model_validate_json(json.dumps(values))
        seconds = JOBS[job](profile, Path(out), images)
    return {"seconds": seconds, "peak_mb": peak_resident_mb()}


def run_in_process(job: str, engine: str, folder: Path, images: int) -> dict[str, float]:
    """Run a job with an engine in a new process."""
    if job == "label":
        archive(folder / f"xrays_{images}.npz", images)
    threads = {} if engine == "one process" else {"OMP_NUM_THREADS": "1"}
    options = ["--images", str(images), "--engine", engine, "--folder", str(folder)]
    command = [sys.executable, "-m", __spec__.name, job, *options]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def compare(job: str, images: int, rounds: int) -> None:
    """Print time and peak memory of every engine, and of Ray with a tenth of the images."""
    engines = [engine for engine in ENGINES if job == "generate" or engine != "two processes"]
    results: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for engine in engines:
                results[engine].append(run_in_process(job, engine, Path(folder), images))
        few = run_in_process(job, "Ray, two workers", Path(folder), images // 10)
    print(f"{job}: {images} images of 64 pixels, median of {rounds}")
    baseline = [row["seconds"] for row in results["one process"]]
    for engine, rows in results.items():
        seconds = [row["seconds"] for row in rows]
        ratio = statistics.median(np.divide(seconds, baseline))
        peak = statistics.median(row["peak_mb"] for row in rows)
        times = f"{statistics.median(seconds):7.1f} s, {ratio:.2f} x one process"
        print(f"  {engine:18} {times}, peak {peak:.0f} MB")
    print(f"  Ray, {images // 10} images: {few['seconds']:.1f} s, peak {few['peak_mb']:.0f} MB")


def main() -> None:
    """Compare the engines, or run one of them in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=sorted(ENGINES), help="only this engine, once, in this process")
    parser.add_argument("--folder", type=Path, help="working folder")
    arguments = parser.parse_args()
    images = arguments.images or {"label": 80_000, "generate": 2_560}[arguments.job]
    if arguments.engine:
        print(json.dumps(run_here(arguments.job, arguments.engine, arguments.folder, images)))
    else:
        compare(arguments.job, images, arguments.rounds)


if __name__ == "__main__":
    main()
