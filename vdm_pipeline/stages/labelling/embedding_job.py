"""`image_embeddings`: embed an archive with the labeller's image tower, locally or on a Ray cluster."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vdm_pipeline.io.atomic import remove_leftovers
from vdm_pipeline.io.progress import Log, Progress
from vdm_pipeline.settings import Data, Execution
from vdm_pipeline.stages.data.archive import Archive, read_archive
from vdm_pipeline.stages.labelling.embeddings import (
    EmbedFunction,
    Shard,
    ShardWriter,
    embed_archive,
    list_shards,
)
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.runtime.device import pick_device
from vdm_pipeline.stages.runtime.ray_pool import Task, run_on_ray


@dataclass(frozen=True)
class EmbeddingJob:
    """Archive, labeller, output folder and execution settings. It is small enough to send to Ray workers."""

    archive_path: Path
    data: Data
    class_names: tuple[str, ...]
    labeller_folder: Path
    output_folder: Path
    execution: Execution

    def open_archive(self) -> Archive:
        """Open and check the archive."""
        return read_archive(self.archive_path, self.data, self.class_names)

    def load_labeller(self) -> EmbedFunction:
        """Load the image tower."""
        labeller = ZeroShot(self.labeller_folder, pick_device(self.execution.device))
        return lambda images: labeller.embed(images, self.execution.label_batch_size)


def embed_images(job: EmbeddingJob, log: Log, progress: Progress) -> tuple[Archive, list[str]]:
    """Write the embeddings of the archive; return the archive and the devices of Ray workers.

    Existing shards are kept. The bytes do not depend on the worker.

    Raises `PipelineError` for embeddings that are not finite, and if Ray is missing or its workers fail.
    """
    archive = job.open_archive()
    log(f"embedding {archive.n} images")
    if job.execution.engine == "local":
        embed_archive(archive, job.load_labeller(), job.output_folder, progress)
        return archive, []
    return archive, _embed_on_ray(job, archive, log, progress)


def _embed_on_ray(job: EmbeddingJob, archive: Archive, log: Log, progress: Progress) -> list[str]:
    """Write the missing shards on the workers; return their devices."""
    job.output_folder.mkdir(parents=True, exist_ok=True)
    shards = list_shards(archive)
    missing = [
        unit for unit, shard in enumerate(shards) if not (job.output_folder / shard.file_name).exists()
    ]
    done = archive.n - sum(shards[unit].images for unit in missing)

    def count(images: int) -> None:
        nonlocal done
        done += images
        progress(done, archive.n)

    devices = run_on_ray(partial(_make_task, job, shards), missing, job.execution, log, count)
    remove_leftovers(job.output_folder, ".*")  # of killed workers
    return devices


def _make_task(job: EmbeddingJob, shards: list[Shard], _: Log) -> Task:
    """Load the labeller in a Ray worker; the task writes one shard and returns its number of images."""
    writer = ShardWriter(job.open_archive(), job.load_labeller(), job.output_folder)
    return lambda unit: writer.write(shards[unit])
