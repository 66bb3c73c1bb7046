"""Images and plots embedded in the page, as thumbnails and with alternative text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import data_uri, file_uri, read_png, resize
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.evaluation.spaces import SPACES
from vdm_pipeline.stages.report.titles import SPACE_TITLES

MAX_SUSPECTS = 12
"""Suspect labels that are shown."""
SUBSET_IMAGES = 12
"""Images of the training subset that are shown."""
THUMBNAIL_SIDE = 128
"""Largest side of a thumbnail in pixels. Larger images are scaled down; smaller ones keep their size."""
LABEL_PLOTS = {
    "roc": "ROC curve of the labels on test",
    "reliability": "share of correct labels by confidence, on test",
    "confusion": "confusion matrix of the labels on test",
    "scores": "scores of the test images by true class",
}
IMAGE_PLOTS = {
    **{f"kid_{space}": f"KID of each arm with its interval, {SPACE_TITLES[space]}" for space in SPACES},
    **{
        f"neighbours_{space}": f"precision, recall, density and coverage of each arm, {SPACE_TITLES[space]}"
        for space in SPACES
    },
}
PAIRED_PLOTS = {"paired": "LoRA minus baseline for each metric, divided by the half-width of its interval"}
COPIES_PLOTS = {
    f"copies_{space}": f"share of each arm near training and near held-out images, {SPACE_TITLES[space]}"
    for space in SPACES
}
UTILITY_PLOTS = {"utility": "balanced accuracy of the classifier by training set"}
LOSS_PLOTS = {"loss": "training and validation loss by step"}


def embedded_plots(folder: Path, titles: dict[str, str]) -> list[dict[str, str]]:
    """The plots that exist in ``folder``, in the order of ``titles``, with alternative text."""
    paths = {folder / f"{name}.png": title for name, title in titles.items()}
    return [{"uri": file_uri(path), "alt": title} for path, title in paths.items() if path.is_file()]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The square image ``[h, w]`` or ``[h, w, 3]`` with at most `THUMBNAIL_SIDE` pixels per side."""
    return image if len(image) <= THUMBNAIL_SIDE else resize(image[None], THUMBNAIL_SIDE)[0]


def evenly_spaced(rows: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Up to ``n`` rows at equal distances, starting with the first; never selected by appearance."""
    step = max(1, len(rows) // n)
    return list(rows[::step][:n])


def subset_cards(subset: Path) -> list[dict[str, str]]:
    """Images of the training subset, each with its caption and true label."""
    rows = read_rows(subset / "metadata.jsonl", ("file_name", "text", "ground_truth"))
    return [
        {
            "uri": data_uri(thumbnail(read_png(subset, row["file_name"]))),
            "caption": row["text"],
            "true_label": row["ground_truth"],
        }
        for row in evenly_spaced(rows, SUBSET_IMAGES)
    ]


def suspect_labels(suspects: Path, images: NDArray[np.uint8]) -> dict[str, Any]:
    """The number of suspect labels, and the first ones with their images ``[n, h, w]``, in table order."""
    import pandas as pd

    texts = dict.fromkeys(("image_id", "label", "suggested"), str)
    table = pd.read_csv(suspects, dtype=texts, keep_default_na=False)
    first = table.head(MAX_SUSPECTS).to_dict("records")
    cards = [row | {"uri": data_uri(thumbnail(image))} for row, image in zip(first, images, strict=True)]
    return {"n_suspects": len(table), "suspects": cards}
