"""`lora_subset`: balanced images of the train split alone, none of them a copy of another or of a held-out image."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.settings import Classes, Subset
from vdm_pipeline.stages.archive import Archive

if TYPE_CHECKING:
    import pandas as pd


def choose(table: "pd.DataFrame", archive: Archive, subset: Subset, classes: Classes) -> "pd.DataFrame":
    """Rows of ``table`` for the subset, class by class, each class in a seeded order.

    Automatic labels are taken from the more confident half of each class; with ``captions_from = "ground_truth"`` the
    true label chooses. Raises `PipelineError` if a class has too few images.
    """
    import pandas as pd

    train = table[table["split"] == "train"].reset_index(drop=True)
    label = "auto_label" if subset.captions_from == "auto_label" else "ground_truth_label"
    usable = train[usable_rows(archive)]
    chosen = []
    for index, name in enumerate(classes.names):
        candidates = usable[usable[label] == name]
        if subset.captions_from == "auto_label":
            candidates = candidates[candidates["confidence_score"] >= candidates["confidence_score"].median()]
        if len(candidates) < subset.per_class:
            raise PipelineError(
                f"subset.per_class is {subset.per_class}, but only {len(candidates)} usable train images are labelled {name} "
                f"with confidence; lower it, or look at the labels in results/labeled_dataset.csv."
            )
        order = np.random.default_rng([subset.seed, index]).permutation(len(candidates))[: subset.per_class]
        chosen.append(candidates.iloc[np.sort(order)].assign(label=name, label_index=index))
    return pd.concat(chosen, ignore_index=True)


def usable_rows(archive: Archive) -> NDArray[np.bool_]:
    """Which train images are the first of their bytes in train and stand neither in val nor in test, ``[n]``."""
    seen = {image_key(image) for split in ("val", "test") for image in archive.splits[split].images}
    usable = np.zeros(len(archive.splits["train"]), bool)
    for row, image in enumerate(archive.splits["train"].images):
        key = image_key(image)
        usable[row] = key not in seen
        seen.add(key)
    return usable


def image_key(image: NDArray[np.uint8]) -> bytes:
    """What two images with the same pixels share."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def write_subset(folder: Path, chosen: "pd.DataFrame", archive: Archive, classes: Classes) -> list[dict[str, Any]]:
    """Write ``images/*.png`` and ``metadata.jsonl`` in the imagefolder format; return the rows.

    Raises `PipelineError` for an id that is not the archive's, before it becomes the name of a file.
    """
    rows, places = [], {name: place for place, name in enumerate(archive.image_ids("train"))}
    for row in chosen.to_dict("records"):
        if row["image_id"] not in places:
            raise PipelineError(f"'{row['image_id']}' in results/labeled_dataset.csv is no train image; materialize labeled_dataset again.")
        name = f"images/{row['image_id']}.png"
        write_png(folder / name, archive.splits["train"].images[places[row["image_id"]]])
        rows.append(
            {
                "file_name": name,
                "text": classes.caption(int(row["label_index"])),
                "image_id": row["image_id"],
                "label": row["label"],
                "ground_truth": row["ground_truth_label"],
                "confidence_score": round(float(row["confidence_score"]), 6),
            }
        )
    write_rows(folder / "metadata.jsonl", rows)
    return rows
