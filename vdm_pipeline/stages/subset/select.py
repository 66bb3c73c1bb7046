"""`lora_subset`: balanced images of the train split alone, none of them a copy of another or of a held-out image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.settings import Classes, Subset
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.data.quality import check_one_per_image

if TYPE_CHECKING:
    import pandas as pd


def choose(
    table: "pd.DataFrame",
    vectors: NDArray[np.float32],
    left_out: set[str],
    subset: Subset,
    classes: Classes,
) -> "pd.DataFrame":
    """Rows of ``table`` for the subset, class by class.

    ``vectors`` are unit vectors ``[train images, d]`` in the table's order, whose cosine says how alike two images are;
    ``left_out`` holds image ids. With automatic labels, sure images come first, and of these the ones unlike what is chosen
    already; with ``captions_from = "ground_truth"`` the true label chooses, in a seeded order. Raises `PipelineError` if a
    class has too few images, or there is not one vector an image.
    """
    import pandas as pd

    automatic = subset.captions_from == "auto_label"
    label = "auto_label" if automatic else "ground_truth_label"
    train = table[table["split"] == "train"].reset_index(drop=True)
    check_one_per_image(vectors, len(train), "train")
    usable = train[~train["image_id"].isin(left_out)]
    chosen = []
    for index, name in enumerate(classes.names):
        candidates = usable[usable[label] == name]
        if automatic:
            candidates = candidates[
                candidates["confidence_score"]
                >= candidates["confidence_score"].quantile(1 - subset.confident_share)
            ]
        if len(candidates) < subset.per_class:
            raise PipelineError(
                f"subset.per_class is {subset.per_class}, but only {len(candidates)} usable train images are labelled {name} "
                f"with confidence; lower it, or look at the labels in results/labeled_dataset.csv."
            )
        rng = np.random.default_rng([subset.seed, index])
        order = rng.permutation(len(candidates))
        if automatic:
            candidates = candidates.iloc[order]
            order = relevant_and_diverse(
                candidates["confidence_score"].to_numpy(),
                vectors[candidates.index],
                subset.per_class,
                subset.diversity,
            )
        chosen.append(
            candidates.iloc[np.sort(order[: subset.per_class])].assign(label=name, label_index=index)
        )
    return pd.concat(chosen, ignore_index=True)


def choose_held_out(
    table: "pd.DataFrame", faults: "pd.DataFrame", subset: Subset, classes: Classes
) -> "pd.DataFrame":
    """Val rows for the validation loss, up to ``validation_per_class`` a class in a seeded order, none of which has a copy in train."""
    import pandas as pd

    label = "auto_label" if subset.captions_from == "auto_label" else "ground_truth_label"
    copied = set(faults.loc[faults["split"] == "train", "twin"])
    val = table[(table["split"] == "val") & ~table["image_id"].isin(copied)]
    chosen = []
    for index, name in enumerate(classes.names):
        candidates = val[val[label] == name]
        order = np.random.default_rng([subset.seed, index, 1]).permutation(len(candidates))[
            : subset.validation_per_class
        ]
        chosen.append(candidates.iloc[np.sort(order)].assign(label=name, label_index=index))
    return pd.concat(chosen, ignore_index=True)


def relevant_and_diverse(
    confidence: NDArray[np.float64], vectors: NDArray[np.float32], count: int, diversity: float
) -> NDArray[np.int64]:
    """Rows by maximal marginal relevance (Carbonell and Goldstein, 1998), ``[count]``.

    Each step takes the row with the largest ``(1 - diversity) * rank of confidence - diversity * largest cosine to the taken``;
    ranks run from 0 to 1, as probabilities near 1 hardly differ.
    """
    from scipy.stats import rankdata

    rank = (rankdata(confidence, "average") - 1) / max(len(confidence) - 1, 1)
    nearest = np.full(len(confidence), -1.0)
    taken = np.zeros(len(confidence), bool)
    order = np.empty(count, np.int64)
    for step in range(count):
        value = (1 - diversity) * rank - diversity * (nearest if step else 0)
        order[step] = np.argmax(np.where(taken, -np.inf, value))
        taken[order[step]] = True
        nearest = np.maximum(nearest, vectors @ vectors[order[step]])
    return order


def left_out_ids(faults: "pd.DataFrame", suspects: "pd.DataFrame", subset: Subset) -> set[str]:
    """Ids that are not to be chosen: what the profile lists, and whatever also stands in val or test."""
    listed = faults[faults["fault"].isin(subset.exclude)]
    held_out = faults[(faults["split"] == "train") & faults["twin_split"].isin(["val", "test"])]
    doubted = suspects["image_id"] if "suspect" in subset.exclude else suspects["image_id"][:0]
    return {*listed["image_id"], *held_out["image_id"], *doubted}


def write_subset(
    folder: Path, chosen: "pd.DataFrame", archive: Archive, split: str, classes: Classes
) -> list[dict[str, Any]]:
    """Write ``images/*.png`` and ``metadata.jsonl`` in the imagefolder format; return the rows.

    Raises `PipelineError` for an id that is not the archive's, before it becomes the name of a file.
    """
    records, rows = chosen.to_dict("records"), []
    images = archive.pictures(split, chosen["image_id"])
    for row, image in zip(records, images, strict=True):
        name = f"images/{row['image_id']}.png"
        write_png(folder / name, image)
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
