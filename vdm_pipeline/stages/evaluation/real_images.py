"""Which real images are compared with what: never one that the adapter was trained on, and none twice."""

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
    """Real images ``[n, size, size]`` or ``[n, size, size, 3]`` with their true labels ``[n]`` and ids, brought to one size."""

    images: Images
    labels: Labels
    ids: list[str]

    @classmethod
    def of(cls, archive: Archive, split: str, rows: NDArray[np.intp], size: int) -> "RealImages":
        """Rows of a split; there may be none."""
        ids, images = archive.image_ids(split), archive.splits[split].take(rows.tolist())
        sized = resize(images, size) if len(rows) else np.empty((0, size, size), np.uint8)
        return cls(sized, archive.splits[split].labels[rows], [ids[row] for row in rows])


def reference_images(archive: Archive, faults: "pd.DataFrame", size: int) -> RealImages:
    """Val without what also stands in train or test, exactly or nearly, and without repetitions: what arms are compared with.

    Raises `PipelineError` if nothing of val is left.
    """
    copied = faults[faults["twin_split"].notna()]
    shared = {
        *copied.loc[copied["split"] == "val", "image_id"],
        *copied.loc[copied["split"] == "train", "twin"],
    }
    rows = [row for row, name in enumerate(archive.image_ids("val")) if name not in shared]
    if not rows:
        raise PipelineError(
            f"{archive.path}: every val image also stands in train or test, so there is nothing to compare images with; "
            "take an archive whose splits differ, or a higher faults.near_duplicate_cosine."
        )
    return RealImages.of(archive, "val", np.array(rows, np.intp), size)


def control_images(
    archive: Archive, faults: "pd.DataFrame", taken: set[str], counts: Sequence[int], seed: int, size: int
) -> RealImages:
    """Train images outside the subset, ``counts[i]`` of class i as far as there are any: real images in the place of an arm's."""
    spoilt = {*taken, *faults.loc[faults["twin_split"].notna() & (faults["split"] == "train"), "image_id"]}
    free = np.array([name not in spoilt for name in archive.image_ids("train")])
    labels = archive.splits["train"].labels
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(free & (labels == label)))[:count]
        for label, count in enumerate(counts)
    ]
    return RealImages.of(archive, "train", np.sort(np.concatenate(rows)), size)


def subset_images(folder: Path, class_names: Sequence[str], size: int) -> tuple[RealImages, Labels]:
    """What the adapter was trained on, with the true labels; and the labels of its captions ``[n]``."""
    rows = read_rows(folder / "metadata.jsonl", ("file_name", "image_id", "ground_truth", "label"))
    truth, captioned = (class_indices(rows, key, class_names, folder) for key in ("ground_truth", "label"))
    return RealImages(
        resize(read_folder(folder, rows), size), truth, [row["image_id"] for row in rows]
    ), captioned


def class_indices(
    rows: Sequence[Mapping[str, Any]], key: str, class_names: Sequence[str], folder: Path
) -> Labels:
    """The places of the rows' classes in ``class_names``; raises `PipelineError` for what is no class."""
    stranger = next((row[key] for row in rows if row[key] not in class_names), None)
    if stranger is not None:
        raise PipelineError(
            f"{folder} has an image of '{stranger}', which is none of classes.names; materialize its asset again."
        )
    return np.array([class_names.index(row[key]) for row in rows])


def unseen_images(archive: Archive, size: int) -> RealImages:
    """All of test: nothing is chosen by it."""
    return RealImages.of(archive, "test", np.arange(len(archive.splits["test"])), size)
