"""Generate all images of an arm and their table: in this process, in several, or on a Ray cluster."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import remove_leftovers, temporary_file
from vdm_pipeline.io.progress import Log, Progress
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.stages.generation.image_generator import ImageGenerator
from vdm_pipeline.stages.generation.image_records import read_record
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.plan import SampleSpec
from vdm_pipeline.stages.runtime.device import pick_device, pick_dtype
from vdm_pipeline.stages.runtime.launcher import launch_workers
from vdm_pipeline.stages.runtime.ray_pool import Task, run_on_ray

WORKER = "vdm_pipeline.stages.generation.worker"
UNITS_PER_RAY_WORKER = 8
"""More units share the work more evenly; fewer units wait less often until their last images are written."""
Unit = list[tuple[SampleSpec, ...]]


def generate(job: Job, log: Log, progress: Progress) -> tuple[list[dict[str, Any]], list[str]]:
    """Write one image per sample and ``metadata.jsonl`` into ``job.folder``.

    Returns the rows in the plan's order, and the devices of a Ray cluster. An interrupted call resumes at
    the first missing image and gives the same bytes. One process and a cluster report to ``progress``;
    several processes write their progress to ``log``. Raises `PipelineError` if images are not finite, if
    something else is in the place of the folder or of a file, and if Ray is missing or its workers fail.
    """
    devices: list[str] = []
    _prepare_folder(job)
    if job.execution.engine == "ray":
        devices = _generate_on_ray(job, log, progress)
    elif job.execution.num_processes == 1:
        _image_generator(job, log).generate(job.groups(), progress)
    elif None in read_records(job):
        _generate_in_processes(job, log)
    remove_leftovers(job.folder, ".*")
    rows = [row for row in read_records(job) if row]
    if len(rows) < len(job.samples):
        missing = len(job.samples) - len(rows)
        raise PipelineError(
            f"{missing} images are missing or damaged in {job.folder}; materialize the asset again."
        )
    write_rows(job.folder / "metadata.jsonl", rows)
    return rows, devices


def read_records(job: Job) -> list[dict[str, Any] | None]:
    """`read_record` of every sample. It takes 2 ms per image of 256 pixels and core."""
    with ThreadPoolExecutor() as readers:
        return list(readers.map(partial(read_record, job), job.samples))


def _image_generator(job: Job, log: Log) -> ImageGenerator:
    device = pick_device(job.execution.device)
    return ImageGenerator(job, device, pick_dtype(device), log)


def _generate_in_processes(job: Job, log: Log) -> None:
    with temporary_file(job.folder / "job.json") as path:
        path.write_text(job.model_dump_json(indent=1), encoding="utf-8")
        launch_workers(WORKER, path, job.execution.num_processes, log)


def _generate_on_ray(job: Job, log: Log, progress: Progress) -> list[str]:
    """Generate the incomplete units on a Ray cluster; returns the devices that worked."""
    units = _units(job)
    records = zip(job.samples, read_records(job), strict=True)
    existing = {sample for sample, record in records if record}
    incomplete = [index for index, unit in enumerate(units) if not existing.issuperset(_samples(unit))]
    done = len(job.samples) - sum(len(_samples(units[index])) for index in incomplete)

    def add_progress(images: int) -> None:
        nonlocal done
        done += images
        progress(done, len(job.samples))

    return run_on_ray(partial(_make_task, job, units), incomplete, job.execution, log, add_progress)


def _make_task(job: Job, units: list[Unit], log: Log) -> Task:
    """Load the models in a Ray worker; the task generates one unit and returns its number of images."""
    image_generator = _image_generator(job, log)

    def generate_unit(index: int) -> int:
        image_generator.generate(units[index], _ignore_progress)
        return len(_samples(units[index]))

    return generate_unit


def _ignore_progress(done: int, total: int) -> None:
    """The driver reports the progress of all units."""


def _units(job: Job) -> list[Unit]:
    """The groups of a job in units of work for Ray's workers."""
    groups = job.groups()
    size = -(-len(groups) // (UNITS_PER_RAY_WORKER * job.execution.ray.workers))
    return [groups[start : start + size] for start in range(0, len(groups), size)]


def _samples(unit: Sequence[tuple[SampleSpec, ...]]) -> list[SampleSpec]:
    return [sample for group in unit for sample in group]


def _prepare_folder(job: Job) -> None:
    """Create the folder; raises `PipelineError` if something else is in its place or in that of a file."""
    if job.folder.exists() and not job.folder.is_dir():
        raise PipelineError(f"{job.folder} is a file, but must be a folder of images; move it away.")
    for name in (*(sample.file_name for sample in job.samples), "metadata.jsonl"):
        if (job.folder / name).is_dir():
            raise PipelineError(f"{job.folder / name} is a folder, but must be a file; move it away.")
    job.folder.mkdir(parents=True, exist_ok=True)
