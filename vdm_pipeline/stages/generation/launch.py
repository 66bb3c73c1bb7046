"""The images of an arm, drawn in this process or in several that accelerate starts, and their table."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_leftovers, write_text
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.stages.generation.draw import ImageGenerator, Progress, made
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.plan import SampleSpec
from vdm_pipeline.stages.runtime.device import pick_device, pick_dtype
from vdm_pipeline.stages.runtime.launcher import launch
from vdm_pipeline.stages.runtime.ray_pool import Do, Log, spread

TURNS = 8
"""Units of work a worker of a cluster: more spread better, fewer wait less often for their last images to be written."""


def generate(job: Job, log: Log, progress: Progress) -> tuple[list[dict[str, Any]], list[str]]:
    """Write an image a shot and ``metadata.jsonl`` into ``job.folder``; its rows in the plan's order, and a cluster's devices.

    An interrupted call is gone on with at the first missing image, and ends in the same bytes. One process and a cluster report
    to ``progress``; of several processes, every line goes to ``log``. Raises `PipelineError` for images that are not finite, where
    something else stands in the place of the folder or of a file, and where there is no Ray or its workers fail.
    """
    devices: list[str] = []
    _make_room(job)
    if job.execution.engine == "ray":
        devices = _on_cluster(job, log, progress)
    elif job.execution.num_processes == 1:
        device = pick_device(job.execution.device)
        ImageGenerator(job, device, pick_dtype(device), log).generate(job.groups(), progress)
    elif None in records(job):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            write_text(path, job.model_dump_json(indent=1))
            launch("vdm_pipeline.stages.sampling.worker", path, job.execution.num_processes, log)
    remove_leftovers(job.folder, ".*")
    rows = [row for row in records(job) if row]
    if len(rows) < len(job.samples):
        raise PipelineError(
            f"{len(job.samples) - len(rows)} images are missing or damaged in {job.folder}; materialize the asset again."
        )
    write_rows(job.folder / "metadata.jsonl", rows)
    return rows, devices


def records(job: Job) -> list[dict[str, Any] | None]:
    """The record of every shot's image, None where it is missing or damaged. Two milliseconds an image of 256 pixels and core."""
    with ThreadPoolExecutor() as readers:
        return list(readers.map(partial(made, job), job.samples))


def _on_cluster(job: Job, log: Log, progress: Progress) -> list[str]:
    """Some groups a unit, as far as an image of them is missing; the devices that worked."""
    groups = job.groups()
    each = -(-len(groups) // (TURNS * job.execution.ray.workers))
    units = [groups[start : start + each] for start in range(0, len(groups), each)]
    there = {shot for shot, row in zip(job.samples, records(job), strict=True) if row}
    missing = [
        index
        for index, unit in enumerate(units)
        if not all(shot in there for group in unit for shot in group)
    ]
    done = len(job.samples) - sum(_count(units[index]) for index in missing)

    def make(say: Log) -> Do:
        device = pick_device(job.execution.device)
        generator = ImageGenerator(job, device, pick_dtype(device), say)

        def do(index: int) -> int:
            generator.generate(units[index], lambda *counts: None)
            return _count(units[index])

        return do

    def count(images: int) -> None:
        nonlocal done
        done += images
        progress(done, len(job.samples))

    return spread(make, missing, job.execution, log, count)


def _count(unit: Sequence[tuple[SampleSpec, ...]]) -> int:
    """Images of a unit."""
    return sum(map(len, unit))


def _make_room(job: Job) -> None:
    """The folder, if nothing is in the way."""
    if job.folder.exists() and not job.folder.is_dir():
        raise PipelineError(
            f"{job.folder} is a file, and a folder of images is to stand there; move it away."
        )
    for name in (*(shot.file_name for shot in job.samples), "metadata.jsonl"):
        if (job.folder / name).is_dir():
            raise PipelineError(
                f"{job.folder / name} is a folder, and a file is to stand there; move it away."
            )
    job.folder.mkdir(parents=True, exist_ok=True)
