"""Pictures that the page embeds: never more pixels than it can show, and plots with words for those who do not see them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import data_uri, file_uri, read_png, resize
from vdm_pipeline.io.tables import read_rows

SUSPECTS = 12
"""Doubted labels that are shown."""
LEARNT_FROM = 12
"""Images of the subset that are shown."""
MODEST = 128
"""Largest side of a small picture, pixels; larger ones are brought down to it, smaller ones stay as they are."""
LABEL_PLOTS = {
    "roc": "ROC curve of the labels on test",
    "reliability": "share of labels that are right against their confidence, on test",
    "confusion": "confusion matrix of the labels on test",
    "scores": "scores of the test images by their true class",
}
IMAGE_PLOTS = {
    "kid_labeller": "KID of each arm with its interval, in the labeller's space",
    "kid_independent": "KID of each arm with its interval, in the independent space",
    "neighbours_labeller": "precision, recall, density and coverage of each arm, in the labeller's space",
    "neighbours_independent": "precision, recall, density and coverage of each arm, in the independent space",
}
PAIRED_PLOTS = {"paired": "LoRA minus baseline of each metric, in half-widths of its interval"}
COPIES_PLOTS = {
    "copies_labeller": "share of each arm near training and near held-out images, in the labeller's space",
    "copies_independent": "share of each arm near training and near held-out images, in the independent space",
}
UTILITY_PLOTS = {"utility": "balanced accuracy of the classifier by what it was trained on"}


def plots(folder: Path, names: dict[str, str]) -> list[dict[str, str]]:
    """Plots that are there, in the order of ``names``, with what they show."""
    return [
        {"uri": file_uri(path), "alt": alt}
        for name, alt in names.items()
        if (path := folder / f"{name}.png").is_file()
    ]


def modest(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image ``[h, w]`` or ``[h, w, 3]``, square and at most `MODEST` pixels a side."""
    return image if len(image) <= MODEST else resize(image[None], MODEST)[0]


def spread(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` rows evenly over the list, the first included; never a choice by looks."""
    step = max(1, len(rows) // count)
    return list(rows[::step][:count])


def learnt_from(subset: Path) -> list[dict[str, str]]:
    """Images of the subset, with caption and true label."""
    rows = spread(read_rows(subset / "metadata.jsonl", ("file_name", "text", "ground_truth")), LEARNT_FROM)
    return [
        {
            "uri": data_uri(modest(read_png(subset, row["file_name"]))),
            "text": row["text"],
            "truth": row["ground_truth"],
        }
        for row in rows
    ]


def doubted(suspects: Path, images: NDArray[np.uint8]) -> dict[str, Any]:
    """How many labels are doubted, and the worst with their images ``[n, h, w]``, in the order of the table."""
    import pandas as pd

    table = pd.read_csv(
        suspects, dtype={"image_id": str, "label": str, "suggested": str}, keep_default_na=False
    )
    worst = table.head(SUSPECTS).to_dict("records")
    return {
        "n_suspects": len(table),
        "suspects": [
            row | {"uri": data_uri(modest(image))} for row, image in zip(worst, images, strict=True)
        ],
    }
