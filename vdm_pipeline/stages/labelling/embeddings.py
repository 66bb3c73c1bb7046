"""Image embeddings on disk, in shards. Stored once, they make new prompts cost no image pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import atomic_file
from vdm_pipeline.io.progress import Progress
from vdm_pipeline.stages.data.archive import Archive

SHARD_SIZE = 512
"""Images per shard file: the most that a killed run loses, and the most in memory at once."""

EmbedFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images ``[n, h, w]`` or ``[n, h, w, 3]`` to embeddings ``[n, d]``."""


@dataclass(frozen=True)
class Shard:
    """Part of a split; the file ``<split>_<index>.safetensors`` with ``embeddings`` ``[n, d]``, float32."""

    split: str
    index: int
    images: int

    @property
    def file_name(self) -> str:
        """Name in the folder of the embeddings."""
        return f"{self.split}_{self.index:05d}.safetensors"


def list_shards(archive: Archive) -> list[Shard]:
    """The shards of all splits, in the archive's order."""
    shards = []
    for split, part in archive.splits.items():
        for index, start in enumerate(range(0, len(part), SHARD_SIZE)):
            shards.append(Shard(split, index, min(SHARD_SIZE, len(part) - start)))
    return shards


class ShardWriter:
    """Embeds shards of an archive. Images are read forward, so shards in order cost a single pass."""

    def __init__(self, archive: Archive, embed: EmbedFunction, folder: Path) -> None:
        """Read nothing yet."""
        self.archive, self.embed, self.folder = archive, embed, folder
        self._split, self._next_index = "", 0
        self._batches: Iterator[NDArray[np.uint8]] = iter(())

    def write(self, shard: Shard) -> int:
        """Embed a shard unless its file exists; return its number of images.

        Raises `PipelineError` for embeddings that are not finite.
        """
        from safetensors.numpy import save

        path = self.folder / shard.file_name
        if not path.exists():
            vectors = self.embed(self._read(shard))
            if not np.isfinite(vectors).all():
                raise PipelineError(
                    f"Embeddings of {shard.split} images are not finite; "
                    "check labelling.model and its weights."
                )
            content = save({"embeddings": vectors})  # save_file ignores the umask: only the owner could read
            with atomic_file(path) as temporary:
                temporary.write_bytes(content)
        return shard.images

    def _read(self, shard: Shard) -> NDArray[np.uint8]:
        """The images of a shard; restarts the pass if the shard is behind the current position."""
        if self._split != shard.split or self._next_index > shard.index:
            self._split, self._next_index = shard.split, 0
            self._batches = self.archive.splits[shard.split].batches(SHARD_SIZE)
        while self._next_index < shard.index:
            next(self._batches)
            self._next_index += 1
        self._next_index += 1
        return next(self._batches)


def embed_archive(archive: Archive, embed: EmbedFunction, folder: Path, progress: Progress) -> None:
    """Write all shards that do not exist. Raises `PipelineError` for embeddings that are not finite."""
    folder.mkdir(parents=True, exist_ok=True)
    writer, done = ShardWriter(archive, embed, folder), 0
    for shard in list_shards(archive):
        done += writer.write(shard)
        progress(done, archive.n)


def read_embeddings(folder: Path, split: str) -> Iterator[NDArray[np.float32]]:
    """The embeddings of a split in order, one shard ``[n, d]`` at a time."""
    from safetensors.numpy import load_file

    for path in sorted(folder.glob(f"{split}_*.safetensors")):
        yield load_file(path)["embeddings"]
