"""`data_faults`: a table of duplicate, near-duplicate, blank and saturated images of an archive."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.data.archive import READ_ROWS, Archive
from vdm_pipeline.stages.data.near_duplicates import Whitening, close_pairs

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.uint8]
EmbeddingReader = Callable[[str], Iterable[NDArray[np.float32]]]
"""Gives the embeddings of a split in batches."""
ORDER = ("test", "val", "train")
"""The first of equal images is the original. In this order, a train image is the copy of a test image."""
COLUMNS = ("image_id", "split", "fault", "twin", "twin_split", "value")


class Fault(NamedTuple):
    """One row of the table. Images are positions in the list of all images, in `ORDER`."""

    image: int
    kind: str
    value: float
    twin: int | None = None


def find_faults(archive: Archive, embeddings: EmbeddingReader, faults: Faults) -> "pd.DataFrame":
    """One row per fault: ``image_id, split, fault, twin, twin_split, value``.

    ``duplicate``: same pixels as ``twin``, which is the first such image of the same split, or of all splits
    in the order test, val, train; an image can have both.
    ``near_duplicate``: ``value`` is the cosine of the whitened embeddings.
    ``blank`` and ``saturated``: ``value`` is what `blank_mask` and `saturated_mask` measure.
    """
    import pandas as pd

    ids = [(split, image_id) for split in ORDER for image_id in archive.image_ids(split)]
    found: list[Fault] = []
    hashes: dict[str, list[bytes]] = {split: [] for split in ORDER}
    start = 0
    for split in ORDER:
        for batch in archive.splits[split].batches(READ_ROWS):
            found += _pixel_faults(batch, start, faults)
            hashes[split] += image_hashes(batch)
            start += len(batch)
    duplicates = list(_duplicates(hashes))
    originals = np.setdiff1d(np.arange(len(ids)), [fault.image for fault in duplicates])
    found += duplicates
    found += _near_duplicates(archive, embeddings, originals, faults.near_duplicate_cosine)
    table = pd.DataFrame([_table_row(ids, fault) for fault in found], columns=list(COLUMNS))
    return table.sort_values(["fault", "image_id", "twin"], ignore_index=True)


def image_hashes(images: Images) -> list[bytes]:
    """One hash per image; equal for images with the same pixels."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images]


def blank_mask(images: Images, faults: Faults) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which images ``[n, h, w]`` or ``[n, h, w, 3]`` have too little contrast, ``[n]``.

    Also returns the contrast: the standard deviation in grey levels, the largest of the channels.
    """
    std = _pixels_by_channel(images).std(axis=1).max(axis=1)
    return std < faults.blank_std, std


def saturated_mask(images: Images, faults: Faults) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which images have too large a share of pixel values at 0 or 255, ``[n]``. Also returns the share."""
    pixels = _pixels_by_channel(images)
    share = ((pixels == 0) | (pixels == 255)).mean(axis=(1, 2))
    return share >= faults.saturated_share, share


def check_embedding_count(embeddings: NDArray[np.floating], n_images: int, split: str) -> None:
    """Raise `PipelineError` unless there is one embedding per image of the split."""
    if len(embeddings) != n_images:
        raise PipelineError(
            f"Asset image_embeddings has {len(embeddings)} embeddings for the {n_images} images of {split}; "
            "materialize it again."
        )


def count_faults(table: "pd.DataFrame", archive: Archive, class_names: Sequence[str]) -> dict[str, Any]:
    """Counts of faults by kind and split, and of images by split and class.

    Example: ``duplicate: {train: 18, train also in val: 8}``. Within a split all copies but the first count;
    across splits, the images that are in both.
    """
    counts: dict[str, Any] = {}
    groups = table.fillna({"twin_split": ""}).groupby(["fault", "split", "twin_split"])
    for (fault, split, twin_split), rows in groups:
        if twin_split in ("", split):
            key, counted = split, rows["image_id"]
        else:
            key, counted = f"{split} also in {twin_split}", rows["twin"]
        counts.setdefault(fault, {})[key] = int(counted.nunique())
    classes = {
        split: dict(zip(class_names, values, strict=True))
        for split, values in archive.class_counts(len(class_names)).items()
    }
    return {"faults": counts, "classes": classes}


def _pixels_by_channel(images: Images) -> Images:
    """``[n, pixels, channels]``."""
    n, height, width = images.shape[:3]
    return images.reshape(n, height * width, 1 if images.ndim == 3 else images.shape[3])


def _pixel_faults(batch: Images, start: int, faults: Faults) -> Iterator[Fault]:
    """Blank and saturated images of a batch whose first image is at position ``start``."""
    for kind, mask in (("blank", blank_mask), ("saturated", saturated_mask)):
        is_faulty, measure = mask(batch, faults)
        for row in np.flatnonzero(is_faulty).tolist():
            yield Fault(start + row, kind, float(measure[row]))


def _duplicates(hashes: Mapping[str, Sequence[bytes]]) -> Iterator[Fault]:
    """Images with the hash of an earlier one of the same split, or of all splits."""
    first: dict[bytes, int] = {}
    image = 0
    for split in ORDER:
        first_in_split: dict[bytes, int] = {}
        for pixels in hashes[split]:
            twins = {first.setdefault(pixels, image), first_in_split.setdefault(pixels, image)}
            for twin in twins - {image}:
                yield Fault(image, "duplicate", 1.0, twin)
            image += 1


def _near_duplicates(
    archive: Archive, embeddings: EmbeddingReader, images: NDArray[np.int64], min_cosine: float
) -> Iterator[Fault]:
    """Close pairs among ``images``, in embeddings that are whitened by those of train."""
    by_split = {}
    for split in ORDER:
        by_split[split] = np.concatenate(list(embeddings(split)))
        check_embedding_count(by_split[split], len(archive.splits[split]), split)
    whiten = Whitening.fit(by_split["train"])
    vectors = np.concatenate([whiten(by_split[split]) for split in ORDER])[images]
    for later, earlier, cosine in close_pairs(vectors, min_cosine):
        yield Fault(int(images[later]), "near_duplicate", cosine, int(images[earlier]))


def _table_row(ids: Sequence[tuple[str, str]], fault: Fault) -> dict[str, Any]:
    split, image_id = ids[fault.image]
    twin_split, twin_id = (None, None) if fault.twin is None else ids[fault.twin]
    return {
        "image_id": image_id,
        "split": split,
        "fault": fault.kind,
        "twin": twin_id,
        "twin_split": twin_split,
        "value": fault.value,
    }
