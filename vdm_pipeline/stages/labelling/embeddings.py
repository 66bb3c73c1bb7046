"""`image_embeddings`: what the labeller's image tower makes of every image, kept, so that new prompts cost no image pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import atomic_file
from vdm_pipeline.stages.data.archive import Archive

SHARD = 512
"""Images a file: what a killed run loses at most, and all that is in memory at once."""

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Shard:
    """A piece of a split, which becomes the file ``<split>_<index>.safetensors``: ``embeddings`` ``[n, d]``, float32."""

    split: str
    index: int
    images: int

    @property
    def file_name(self) -> str:
        """In the folder of the embeddings."""
        return f"{self.split}_{self.index:05d}.safetensors"


def shards_of(archive: Archive) -> list[Shard]:
    """Every piece of every split, in the order in which the archive is read."""
    counts = {name: len(split) for name, split in archive.splits.items()}
    return [
        Shard(name, i, min(SHARD, n - i * SHARD)) for name, n in counts.items() for i in range(-(-n // SHARD))
    ]


class Embedder:
    """Embeds pieces of an archive, whose images are read forward: pieces in their order cost one pass over it."""

    def __init__(self, archive: Archive, embed: Embed, folder: Path) -> None:
        """Nothing is read yet."""
        self.archive, self.embed, self.folder = archive, embed, folder
        self._split, self._next = "", 0
        self._stream: Iterator[NDArray[np.uint8]] = iter(())

    def write(self, shard: Shard) -> int:
        """Embed a piece unless its file stands; its number of images. Raises `PipelineError` for embeddings that are not finite."""
        from safetensors.numpy import save

        path = self.folder / shard.file_name
        if not path.exists():
            vectors = self.embed(self._images(shard))
            if not np.isfinite(vectors).all():
                raise PipelineError(
                    f"Embeddings of {shard.split} images are not finite; look at labelling.model and its weights."
                )
            with atomic_file(path) as temporary:
                temporary.write_bytes(
                    save({"embeddings": vectors})
                )  # save_file would close it to others, whatever the umask
        return shard.images

    def _images(self, shard: Shard) -> NDArray[np.uint8]:
        if self._split != shard.split or self._next > shard.index:
            self._split, self._next, self._stream = (
                shard.split,
                0,
                self.archive.splits[shard.split].batches(SHARD),
            )
        while self._next < shard.index:
            next(self._stream)
            self._next += 1
        self._next += 1
        return next(self._stream)


def embed_archive(archive: Archive, embed: Embed, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Write the file of every piece; those that stand are kept. Raises `PipelineError` for embeddings that are not finite."""
    folder.mkdir(parents=True, exist_ok=True)
    embedder, done = Embedder(archive, embed, folder), 0
    for shard in shards_of(archive):
        done += embedder.write(shard)
        progress(done, archive.n)


def read_embeddings(folder: Path, split: str) -> Iterator[NDArray[np.float32]]:
    """The embeddings of a split in order, a shard ``[n, d]`` at a time."""
    from safetensors.numpy import load_file

    for path in sorted(folder.glob(f"{split}_*.safetensors")):
        yield load_file(path)["embeddings"]
