"""`data_faults`: images that stand twice, say nothing, or are burnt out; a table of them, and what it means for the classes."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Faults
from vdm_pipeline.stages.data.archive import READ_ROWS, Archive
from vdm_pipeline.stages.data.near_duplicates import Whitening, close_pairs

if TYPE_CHECKING:
    import pandas as pd

Embeddings = Callable[[str], Iterable[NDArray[np.float32]]]
ORDER = ("test", "val", "train")
"""Of two equal images the one of the earlier split here is the original: a train image is the copy of a held-out one."""
COLUMNS = ("image_id", "split", "fault", "twin", "twin_split", "value")


def find_faults(archive: Archive, embeddings: Embeddings, faults: Faults) -> "pd.DataFrame":
    """One row a fault: ``image_id, split, fault, twin, twin_split, value``.

    ``duplicate``: the same pixels as ``twin``, the first of them in the same split, or in an earlier of test, val, train; an
    image can have both. ``near_duplicate``: ``value`` is the cosine of the whitened embeddings.
    ``blank`` and ``saturated``: ``value`` is the deviation in grey levels, of the channel that varies most, and the share of
    pixels at either end.
    """
    import pandas as pd

    ids = [(split, name) for split in ORDER for name in archive.image_ids(split)]
    rows: list[dict[str, Any]] = []
    anywhere: dict[bytes, int] = {}
    copies: set[int] = set()
    at = 0
    for split in ORDER:
        here: dict[bytes, int] = {}
        for batch in archive.splits[split].batches(READ_ROWS):
            for place, key in enumerate(image_keys(batch), at):
                originals = {anywhere.setdefault(key, place), here.setdefault(key, place)} - {place}
                copies |= {place} if originals else set()
                rows += [_row(ids, place, "duplicate", original, 1.0) for original in originals]
            rows += _poor(batch, at, ids, faults)
            at += len(batch)
    parts = {
        split: check_one_per_image(np.concatenate(list(embeddings(split))), len(archive.splits[split]), split)
        for split in ORDER
    }
    whiten = Whitening.of(parts["train"])
    single = np.setdiff1d(np.arange(len(ids)), list(copies))
    vectors = np.concatenate([whiten(parts[split]) for split in ORDER])[single]
    for later, earlier, cosine in close_pairs(vectors, faults.near_duplicate_cosine):
        rows.append(_row(ids, int(single[later]), "near_duplicate", int(single[earlier]), cosine))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["fault", "image_id", "twin"], ignore_index=True)


def image_keys(images: NDArray[np.uint8]) -> list[bytes]:
    """What two images with the same pixels share, one key an image."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images]


def check_one_per_image(embeddings: NDArray[np.float32], images: int, split: str) -> NDArray[np.float32]:
    """The embeddings of a split; raises `PipelineError` if there are not as many as images, such as where a shard was put in."""
    if len(embeddings) != images:
        raise PipelineError(
            f"{len(embeddings)} embeddings for {images} images of {split}; materialize image_embeddings again."
        )
    return embeddings


def count_faults(table: "pd.DataFrame", archive: Archive, class_names: Sequence[str]) -> dict[str, Any]:
    """Numbers by fault and place, such as ``duplicate: {train: 18, train also in val: 8}``, and the classes of each split.

    Inside a split the superfluous images are counted; across splits, the images that stand in both.
    """
    counts: dict[str, Any] = {}
    for (fault, split, twin), found in table.fillna({"twin_split": ""}).groupby(
        ["fault", "split", "twin_split"]
    ):
        across = twin not in ("", split)
        place = f"{split} also in {twin}" if across else split
        counts.setdefault(fault, {})[place] = int(found["twin" if across else "image_id"].nunique())
    shares = {
        split: dict(zip(class_names, values, strict=True))
        for split, values in archive.class_counts(len(class_names)).items()
    }
    return {"faults": counts, "classes": shares}


def _poor(
    batch: NDArray[np.uint8], at: int, ids: list[tuple[str, str]], faults: Faults
) -> list[dict[str, Any]]:
    """Rows of images without contrast, and of those whose pixels are mostly at the ends of the scale."""
    flat = batch.reshape(len(batch), batch.shape[1] * batch.shape[2], -1)
    deviation, ends = flat.std(axis=1).max(axis=1), ((flat == 0) | (flat == 255)).mean(axis=(1, 2))
    blank = [
        _row(ids, at + i, "blank", None, float(deviation[i]))
        for i in np.flatnonzero(deviation < faults.blank_std).tolist()
    ]
    burnt = [
        _row(ids, at + i, "saturated", None, float(ends[i]))
        for i in np.flatnonzero(ends >= faults.saturated_share).tolist()
    ]
    return blank + burnt


def _row(
    ids: list[tuple[str, str]], place: int, fault: str, twin: int | None, value: float
) -> dict[str, Any]:
    twin_split, twin_id = ids[twin] if twin is not None else (None, None)
    return {
        "image_id": ids[place][1],
        "split": ids[place][0],
        "fault": fault,
        "twin": twin_id,
        "twin_split": twin_split,
        "value": value,
    }
