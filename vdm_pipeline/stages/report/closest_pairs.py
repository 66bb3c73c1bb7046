"""The generated images that lie nearest to training images, each between that one and its nearest held-out one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import data_uri, read_png
from vdm_pipeline.stages.report.pictures import modest
from vdm_pipeline.stages.report.wording import find, number


def held_out_ids(images: Mapping[str, Any]) -> list[str]:
    """Ids of the held-out images that `closest` shows, each once."""
    return list(dict.fromkeys(pair["held_out_image"] for pairs in _pairs(images).values() for pair in pairs))


def closest(
    images: Mapping[str, Any],
    arms: Mapping[str, Path],
    subset: Path,
    held_out: Mapping[str, NDArray[np.uint8]],
) -> dict[str, list[dict[str, Any]]]:
    """By feature space: of each pair its names, nearness and pictures; ``arms`` are folders, ``held_out`` holds images ``[h, w]`` by id."""
    return {
        space: [
            pair
            | {
                "nearness": number(pair["nearness"]),
                "generated": data_uri(modest(read_png(arms[pair["arm"]], pair["file_name"]))),
                "train": data_uri(modest(read_png(subset, f"images/{pair['train_image']}.png"))),
                "held_out": data_uri(modest(held_out[pair["held_out_image"]])),
            }
            for pair in pairs
        ]
        for space, pairs in _pairs(images).items()
    }


def _pairs(images: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return find(images, "memorization", "closest") or {}
