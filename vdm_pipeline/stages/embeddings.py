"""`image_embeddings`: what the labeller's image tower makes of every image, kept, so that new prompts cost no image pass."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import atomic_file
from vdm_pipeline.stages.archive import Archive

SHARD = 512
"""Images a file: what a killed run loses at most, and all that is in memory at once."""

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def embed_archive(archive: Archive, embed: Embed, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Write ``<split>_<shard>.safetensors`` with ``embeddings`` ``[n, d]``, float32; shards that stand are kept.

    Raises `PipelineError` for embeddings that are not finite.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    for name, split in archive.splits.items():
        for index, images in enumerate(split.batches(SHARD)):
            path = folder / f"{name}_{index:05d}.safetensors"
            if not path.exists():
                vectors = embed(images)
                if not np.isfinite(vectors).all():
                    raise PipelineError(f"Embeddings of {name} images are not finite; look at labelling.model and its weights.")
                with atomic_file(path) as temporary:
                    temporary.write_bytes(save({"embeddings": vectors}))  # save_file would close it to others, whatever the umask
            done += len(images)
            progress(done, archive.n)


def one_an_image(embeddings: NDArray[np.float32], images: int, split: str) -> NDArray[np.float32]:
    """The embeddings of a split; raises `PipelineError` if there are not as many as images, such as where a shard was put in."""
    if len(embeddings) != images:
        raise PipelineError(f"{len(embeddings)} embeddings for {images} images of {split}; materialize image_embeddings again.")
    return embeddings


def read_embeddings(folder: Path, split: str) -> Iterator[NDArray[np.float32]]:
    """The embeddings of a split in order, a shard ``[n, d]`` at a time."""
    from safetensors.numpy import load_file

    for path in sorted(folder.glob(f"{split}_*.safetensors")):
        yield load_file(path)["embeddings"]
