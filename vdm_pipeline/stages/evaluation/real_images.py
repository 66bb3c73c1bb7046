"""The real images of an evaluation.

Only the subset trained the adapter. No image is in two of the sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import read_folder, resize
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.data.archive import Archive

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class RealImages:
    """Real images ``[n, size, size]`` or ``[n, size, size, 3]``, their true labels ``[n]``, and their ids."""

    images: Images
    labels: Labels
    ids: list[str]

    @classmethod
    def from_split(cls, archive: Archive, split: str, rows: NDArray[np.intp], size: int) -> "RealImages":
        """Rows of a split, possibly none, resized to ``size``."""
        ids, images = archive.image_ids(split), archive.splits[split].take(rows.tolist())
        resized = resize(images, size) if len(rows) else np.empty((0, size, size), np.uint8)
        return cls(resized, archive.splits[split].labels[rows], [ids[row] for row in rows])


def reference_images(archive: Archive, faults: "pd.DataFrame", size: int) -> RealImages:
    """Reference images: val without exact and near duplicates of train, test and other val images.

    Raises `PipelineError` if no val image remains.
    """
    twins = faults[faults["twin_split"].notna()]
    duplicated = {
        *twins.loc[twins["split"] == "val", "image_id"],
        *twins.loc[twins["split"] == "train", "twin"],
    }
    rows = [row for row, image_id in enumerate(archive.image_ids("val")) if image_id not in duplicated]
    if not rows:
        raise PipelineError(
            f"{archive.path}: every val image also occurs in train or test, so no reference images remain; "
            "use an archive with separate splits, or raise faults.near_duplicate_cosine."
        )
    return RealImages.from_split(archive, "val", np.array(rows, np.intp), size)


def control_images(
    archive: Archive,
    faults: "pd.DataFrame",
    exclude: set[str],
    counts: Sequence[int],
    seed: int,
    size: int,
) -> RealImages:
    """Random train images for the row ``real``: ``counts[i]`` of class i, or fewer if there are not enough.

    ``exclude`` holds the ids of the subset. Train images with a duplicate are excluded too.
    """
    twins = faults["twin_split"].notna() & (faults["split"] == "train")
    exclude = exclude | {*faults.loc[twins, "image_id"]}
    available = np.array([image_id not in exclude for image_id in archive.image_ids("train")])
    labels = archive.splits["train"].labels
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(available & (labels == label)))[:count]
        for label, count in enumerate(counts)
    ]
    return RealImages.from_split(archive, "train", np.sort(np.concatenate(rows)), size)


def subset_images(folder: Path, class_names: Sequence[str], size: int) -> tuple[RealImages, Labels]:
    """The training images of the adapter with their true labels, and the labels of their captions ``[n]``."""
    rows = read_rows(folder / "metadata.jsonl", ("file_name", "image_id", "ground_truth", "label"))
    true_labels = class_indices(rows, "ground_truth", class_names, folder)
    caption_labels = class_indices(rows, "label", class_names, folder)
    images = resize(read_folder(folder, rows), size)
    return RealImages(images, true_labels, [row["image_id"] for row in rows]), caption_labels


def class_indices(
    rows: Sequence[Mapping[str, Any]], key: str, class_names: Sequence[str], folder: Path
) -> Labels:
    """Indices of the rows' classes in ``class_names``; raises `PipelineError` for an unknown class."""
    unknown = next((row[key] for row in rows if row[key] not in class_names), None)
    if unknown is not None:
        raise PipelineError(
            f"{folder} has an image of class '{unknown}', which is not in classes.names; "
            "materialize its asset again."
        )
    return np.array([class_names.index(row[key]) for row in rows])


def unseen_images(archive: Archive, size: int) -> RealImages:
    """The whole test split. No earlier stage selects or tunes anything with it."""
    return RealImages.from_split(archive, "test", np.arange(len(archive.splits["test"])), size)
