"""`image_embeddings`: the labeller's image tower over an archive, in this process or on the workers of a Ray cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vdm_pipeline.io.atomic import remove_leftovers
from vdm_pipeline.settings import Data, Execution
from vdm_pipeline.stages.data.archive import Archive, read_archive
from vdm_pipeline.stages.labelling.embeddings import Embed, Embedder, Shard, embed_archive, shards_of
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.runtime.device import pick_device
from vdm_pipeline.stages.runtime.ray_pool import Do, Log, spread

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedding:
    """Which archive, by the labeller in which folder, into which folder, and how."""

    path: Path
    data: Data
    class_names: tuple[str, ...]
    labeller: Path
    folder: Path
    execution: Execution

    def archive(self) -> Archive:
        """Opened and checked."""
        return read_archive(self.path, self.data, self.class_names)

    def embed(self) -> Embed:
        """The image tower, loaded."""
        labeller = ZeroShot(self.labeller, pick_device(self.execution.device))
        return lambda images: labeller.embed(images, self.execution.label_batch_size)


def embed_images(asked: Embedding, log: Log, progress: Progress) -> tuple[Archive, list[str]]:
    """Write the embeddings of the archive; returns it, and of a cluster the devices that worked.

    What stands is kept, and the bytes are the same wherever they are made.

    Raises `PipelineError` for embeddings that are not finite, and where there is no Ray or its workers fail.
    """
    archive = asked.archive()
    log(f"embedding {archive.n} images")
    if asked.execution.engine == "local":
        embed_archive(archive, asked.embed(), asked.folder, progress)
        return archive, []
    return archive, _on_cluster(asked, shards_of(archive), log, progress)


def _on_cluster(asked: Embedding, shards: list[Shard], log: Log, progress: Progress) -> list[str]:
    asked.folder.mkdir(parents=True, exist_ok=True)
    missing = [unit for unit, shard in enumerate(shards) if not (asked.folder / shard.file_name).exists()]
    total = sum(shard.images for shard in shards)
    done = total - sum(shards[unit].images for unit in missing)

    def make(_: Log) -> Do:
        embedder = Embedder(asked.archive(), asked.embed(), asked.folder)
        return lambda unit: embedder.write(shards[unit])

    def count(images: int) -> None:
        nonlocal done
        done += images
        progress(done, total)

    devices = spread(make, missing, asked.execution, log, count)
    remove_leftovers(asked.folder, ".*")  # of workers that were killed
    return devices
