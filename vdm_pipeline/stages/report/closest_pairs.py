"""Single copies and the closest pairs: generated images beside their nearest training and held-out image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import data_uri, read_png
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.report.formatting import number
from vdm_pipeline.stages.report.metric_values import lookup
from vdm_pipeline.stages.report.pictures import thumbnail

MAX_SINGLE_COPIES = 12
"""Single copies that are shown."""


def held_out_ids(images: Mapping[str, Any]) -> list[str]:
    """Ids of the held-out images that `closest_pairs` and `single_copies` show, without duplicates."""
    shown = [*_single_copies(images), *(pair for pairs in _pairs(images).values() for pair in pairs)]
    return list(dict.fromkeys(pair["held_out_image"] for pair in shown))


def closest_pairs(
    images: Mapping[str, Any],
    arms: Mapping[str, Path],
    subset: Path,
    held_out: Mapping[str, NDArray[np.uint8]],
) -> dict[str, list[dict[str, Any]]]:
    """Names, relative distance and pictures of each pair, by feature space.

    ``images`` is image_metrics.json, ``arms`` are folders, and ``held_out`` holds images ``[h, w]`` by id.
    """

    def described(pair: dict[str, Any]) -> dict[str, Any]:
        return _with_pictures(pair, f"relative distance {number(pair['nearness'])}", arms, subset, held_out)

    return {space: [described(pair) for pair in pairs] for space, pairs in _pairs(images).items()}


def single_copies(
    images: Mapping[str, Any],
    arms: Mapping[str, Path],
    subset: Path,
    held_out: Mapping[str, NDArray[np.uint8]],
) -> list[dict[str, Any]]:
    """The first `MAX_SINGLE_COPIES` single copies with their pictures; arguments as in `closest_pairs`."""
    return [
        _with_pictures(
            copy,
            ", ".join(part for part in (f"ratio {number(copy['ratio'])}", copy["orientation"]) if part),
            arms,
            subset,
            held_out,
        )
        for copy in _single_copies(images)
    ]


def _with_pictures(
    pair: dict[str, Any],
    closeness: str,
    arms: Mapping[str, Path],
    subset: Path,
    held_out: Mapping[str, NDArray[np.uint8]],
) -> dict[str, Any]:
    return pair | {
        "closeness": closeness,
        "generated": data_uri(thumbnail(read_png(arms[pair["arm"]], pair["file_name"]))),
        "train": data_uri(thumbnail(_train_image(subset, pair["train_image"]))),
        "held_out": data_uri(thumbnail(held_out[pair["held_out_image"]])),
    }


def _single_copies(images: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = lookup(images, "memorization", "single_copies", "found") or []
    return list(found[:MAX_SINGLE_COPIES])


def _pairs(images: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return lookup(images, "memorization", "closest") or {}


def _train_image(subset: Path, image_id: str) -> NDArray[np.uint8]:
    rows = read_rows(subset / "metadata.jsonl", ("file_name", "image_id"))
    return read_png(subset, next(row["file_name"] for row in rows if row["image_id"] == image_id))
