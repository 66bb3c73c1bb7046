"""`lora_subset`: a class-balanced subset of the train split, without duplicates and held-out images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import write_text
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.settings import Classes, Subset
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.data.quality import check_embedding_count
from vdm_pipeline.stages.subset.dataset_card import CARD, dataset_card

if TYPE_CHECKING:
    import pandas as pd


def select_subset(
    table: "pd.DataFrame",
    vectors: NDArray[np.float32],
    excluded: set[str],
    subset: Subset,
    classes: Classes,
) -> "pd.DataFrame":
    """Rows of ``table`` for the subset, class by class, with the columns ``label`` and ``label_index`` added.

    ``vectors`` are unit vectors ``[train images, d]`` in the table's order, whose cosine is the similarity of
    two images; ``excluded`` holds image ids. Automatic labels select confident images by maximal marginal
    relevance. With ``captions_from = "ground_truth"`` true labels select in a seeded order. Raises
    `PipelineError` if a class has too few images, or if there is not one vector per image.
    """
    import pandas as pd

    train = table[table["split"] == "train"].reset_index(drop=True)
    check_embedding_count(vectors, len(train), "train")
    usable = train[~train["image_id"].isin(excluded)]
    selected = []
    for index, name in enumerate(classes.names):
        candidates = _candidates(usable, name, subset)
        rng = np.random.default_rng([subset.seed, index])
        order = rng.permutation(len(candidates))
        if subset.captions_from == "auto_label":
            candidates = candidates.iloc[order]
            order = maximal_marginal_relevance(
                candidates["confidence_score"].to_numpy(),
                vectors[candidates.index],
                subset.per_class,
                subset.diversity,
            )
        rows = candidates.iloc[np.sort(order[: subset.per_class])]
        selected.append(rows.assign(label=name, label_index=index))
    return pd.concat(selected, ignore_index=True)


def _candidates(usable: "pd.DataFrame", name: str, subset: Subset) -> "pd.DataFrame":
    """Usable images of a class; with automatic labels only the most confident share."""
    candidates = usable[usable[_label_column(subset)] == name]
    found, fix = f"have the true label {name}", "lower it"
    if subset.captions_from == "auto_label":
        confidence = candidates["confidence_score"]
        candidates = candidates[confidence >= confidence.quantile(1 - subset.confident_share)]
        found = f"are labelled {name} with confidence"
        fix = "lower it, or check the labels in results/labeled_dataset.csv"
    if len(candidates) < subset.per_class:
        raise PipelineError(
            f"subset.per_class is {subset.per_class}, but only {len(candidates)} usable train images "
            f"{found}; {fix}."
        )
    return candidates


def _label_column(subset: Subset) -> str:
    return "auto_label" if subset.captions_from == "auto_label" else "ground_truth_label"


def select_validation(
    table: "pd.DataFrame", faults: "pd.DataFrame", subset: Subset, classes: Classes
) -> "pd.DataFrame":
    """Val rows for the validation loss: up to ``validation_per_class`` per class, without copies in train.

    The order is seeded.
    """
    import pandas as pd

    with_copy_in_train = set(faults.loc[faults["split"] == "train", "twin"])
    val = table[(table["split"] == "val") & ~table["image_id"].isin(with_copy_in_train)]
    selected = []
    for index, name in enumerate(classes.names):
        candidates = val[val[_label_column(subset)] == name]
        order = np.random.default_rng([subset.seed, index, 1]).permutation(len(candidates))
        rows = candidates.iloc[np.sort(order[: subset.validation_per_class])]
        selected.append(rows.assign(label=name, label_index=index))
    return pd.concat(selected, ignore_index=True)


def maximal_marginal_relevance(
    confidence: NDArray[np.float64], vectors: NDArray[np.float32], count: int, diversity: float
) -> NDArray[np.int64]:
    """Rows by maximal marginal relevance (Carbonell and Goldstein, 1998), ``[count]``.

    Each step takes the row that maximizes
    ``(1 - diversity) * confidence_rank - diversity * max_cosine_to_selected``. Ranks are scaled to [0, 1],
    because probabilities near 1 hardly differ.
    """
    from scipy.stats import rankdata

    rank = (rankdata(confidence, "average") - 1) / max(len(confidence) - 1, 1)
    max_cosine = np.full(len(confidence), -1.0)
    is_selected = np.zeros(len(confidence), bool)
    order = np.empty(count, np.int64)
    for step in range(count):
        value = (1 - diversity) * rank
        if step:
            value = value - diversity * max_cosine
        order[step] = np.argmax(np.where(is_selected, -np.inf, value))
        is_selected[order[step]] = True
        max_cosine = np.maximum(max_cosine, vectors @ vectors[order[step]])
    return order


def excluded_ids(faults: "pd.DataFrame", suspects: "pd.DataFrame", subset: Subset) -> set[str]:
    """Ids that must not be selected: kinds in ``subset.exclude``, and train images also in val or test."""
    of_excluded_kind = faults["fault"].isin(subset.exclude)
    is_leaked = (faults["split"] == "train") & faults["twin_split"].isin(["val", "test"])
    ids = set(faults.loc[of_excluded_kind | is_leaked, "image_id"])
    if "suspect" in subset.exclude:
        ids.update(suspects["image_id"])
    return ids


def write_subset(
    folder: Path, selected: "pd.DataFrame", archive: Archive, split: str, subset: Subset, classes: Classes
) -> list[dict[str, Any]]:
    """Write ``images/*.png``, captions, ``metadata.jsonl`` as in an imagefolder, and a card; return the rows.

    A file is named by the image's number in its split alone. A word such as "train" in a name would make
    `datasets` drop the captions, and names of data sets and classes may contain any word. kohya's trainer
    reads the caption from the ``.txt`` file beside the image. Raises `PipelineError` for an id that is not
    in the archive, before it becomes a file name.
    """
    images = archive.images_by_id(split, selected["image_id"])
    rows = []
    for record, image in zip(selected.to_dict("records"), images, strict=True):
        name = f"images/{record['image_id'].rpartition('_')[2]}.png"
        caption = classes.caption(int(record["label_index"]))
        write_png(folder / name, image)
        write_text((folder / name).with_suffix(".txt"), caption + "\n")
        rows.append(
            {
                "file_name": name,
                "text": caption,
                "image_id": record["image_id"],
                "label": record["label"],
                "ground_truth": record["ground_truth_label"],
                "confidence_score": round(float(record["confidence_score"]), 6),
            }
        )
    write_rows(folder / "metadata.jsonl", rows)
    write_text(folder / CARD, dataset_card(rows, archive.dataset, split, subset))
    return rows
