"""A Ray cluster against the local engine: ``python -m vdm_pipeline_tests.benchmarks.ray_pool {label,draw} [--images 80000] [--rounds 3]``.

The embedded models, two cores: one process of two threads, two processes that accelerate starts (drawing alone), and two Ray workers
of one thread on a cluster that is started for the job. Each in a process of its own, in turn; seconds count all but Python's start
and imports, and so the cluster's start too. Peak memory is that of the process that asked, without its workers', which for Ray is
told for a tenth of the images as well.
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
WAYS: dict[str, dict[str, Any]] = {
    "one process": {},
    "two processes": {"num_processes": 2},
    "Ray, two workers": RAY,
}
RENDERED = 1000


def archive(path: Path, images: int) -> Path:
    """So many images of 64 pixels, a thousand films over and over."""
    if not path.is_file():
        films = render(1, np.arange(RENDERED), np.arange(RENDERED) % 2 == 1, 64)
        counts = {"train": images - 128, "val": 64, "test": 64}
        arrays = {}
        for split, n in counts.items():
            rows = np.arange(n) % RENDERED
            arrays |= {
                f"{split}_images": films[rows],
                f"{split}_labels": (rows % 2).astype(np.uint8)[:, None],
            }
        write_npz(path, arrays)
    return path


def label(profile: Profile, folder: Path, images: int) -> float:
    """Seconds of the embedding of the archive in the folder above."""
    path = folder.parent / f"films_{images}.npz"
    own = {"channels": 1, "sha256": file_sha256(path), "licence": "none"}
    data = Data.model_validate({"dataset": "films", "size": 64, "source": "file", "own": own})
    job = EmbeddingJob(
        path, data, profile.classes.names, EMBEDDED / "clip", folder / "embeddings", profile.execution
    )
    begun = time.perf_counter()
    embed_images(job, lambda line: None, lambda *counts: None)
    return time.perf_counter() - begun


def draw(profile: Profile, folder: Path, images: int) -> float:
    """Seconds of an arm of so many images."""
    generation = profile.generation.model_copy(update={"per_class": images // 2})
    arm = main_arm(profile, EMBEDDED / "sd", EMBEDDED / "lcm_lora", None)
    job = Job(
        arm=arm,
        samples=tuple(plan(profile.classes, generation)),
        folder=folder / "images",
        execution=profile.execution,
    )
    begun = time.perf_counter()
    generate(job, lambda line: None, lambda *counts: None)
    return time.perf_counter() - begun


WORK = {"label": label, "draw": draw}


def one(what: str, way: str, folder: Path, images: int) -> dict[str, float]:
    """One way, in this process."""
    values = load_profile("demo").model_dump(mode="json")
    values["execution"] |= WAYS[way]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        seconds = WORK[what](Profile.model_validate_json(json.dumps(values)), Path(out), images)
    return {"seconds": seconds, "peak_mb": peak_resident_mb()}


def measured(what: str, way: str, folder: Path, images: int) -> dict[str, float]:
    """The same in a process of its own."""
    if what == "label":
        archive(folder / f"films_{images}.npz", images)
    threads = {} if way == "one process" else {"OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        what,
        "--images",
        str(images),
        "--way",
        way,
        "--folder",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """All ways in turn, and Ray's with a tenth of the images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=sorted(WORK))
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=sorted(WAYS), help="this way alone, once, in this process")
    parser.add_argument("--folder", type=Path, help="where it works")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(one(asked.what, asked.way, asked.folder, asked.images)))
        return
    images = asked.images or {"label": 80_000, "draw": 2_560}[asked.what]
    ways = [way for way in WAYS if asked.what == "draw" or way != "two processes"]
    with tempfile.TemporaryDirectory() as name:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(asked.rounds):
            for way in ways:
                found[way].append(measured(asked.what, way, Path(name), images))
        few = measured(asked.what, "Ray, two workers", Path(name), images // 10)
    print(f"{asked.what}: {images} images of 64 pixels, median of {asked.rounds}")
    for way, rounds in found.items():
        seconds, peak = (statistics.median(row[key] for row in rounds) for key in ("seconds", "peak_mb"))
        ratio = statistics.median(
            mine["seconds"] / its["seconds"] for mine, its in zip(rounds, found["one process"], strict=True)
        )
        print(f"  {way:18} {seconds:7.1f} s, {ratio:.2f} x one process, peak {peak:.0f} MB")
    print(f"  Ray, {images // 10} images: {few['seconds']:.1f} s, peak {few['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
