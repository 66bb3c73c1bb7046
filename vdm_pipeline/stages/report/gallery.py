"""Real images, and below them the arms: a column shares its prompt and seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import data_uri, read_png
from vdm_pipeline.io.tables import read_json, read_rows
from vdm_pipeline.stages.report.pictures import MODEST, spread

COLUMNS, FEWER = 8, 4
"""Images a row; the fewer of large images, so that the page stays small."""
PAIRED = ("label", "prompt", "seed")
"""What all images of a column must share."""
ALSO_PAIRED = ("scheduler", "steps", "guidance_scale", "size", "base_model")
"""What baseline and LoRA must share besides; extra arms differ in just these."""


class Picture(NamedTuple):
    """An image and what is known of it; ``short`` stands below it, ``lines`` are there once it is enlarged."""

    uri: str
    alt: str
    short: str
    lines: list[str]


class Strip(NamedTuple):
    """A row of the gallery."""

    title: str
    pictures: list[Picture]


def gallery(
    class_names: Sequence[str],
    real: Mapping[str, NDArray[np.uint8]],
    baseline: Path,
    generated: Path,
    extra: Path | None = None,
) -> dict[str, list[Strip]]:
    """For each class: real images ``[n, h, w]``, the baseline, the LoRA, and extra arms, whose folders stand in ``extra``.

    Raises `PipelineError` for arms whose images are no pairs.
    """
    rows = paired_rows(baseline, generated, PAIRED + ALSO_PAIRED)
    arms = {"baseline": (baseline, paired_rows(generated, baseline, PAIRED)), "LoRA": (generated, rows)}
    if extra:
        arms |= {
            name: (extra / name, paired_rows(generated, extra / name, PAIRED))
            for name in read_json(extra / "arms.json")
        }
    columns = _columns(generated, rows, real)
    return {name: _strips(name, list(real.get(name, ()))[:columns], arms, columns) for name in class_names}


def paired_rows(theirs: Path, ours: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of ``ours``; raises `PipelineError` unless ``theirs`` has an image of the same name for each, the same in ``keys``."""
    twins = {row["file_name"]: row for row in read_rows(theirs / "metadata.jsonl", ("file_name",))}
    rows = read_rows(ours / "metadata.jsonl", ("file_name", "label", "prompt"))
    for row in rows:
        twin = twins.get(row["file_name"], {})
        differing = [key for key in keys if twin.get(key) != row.get(key)]
        if differing:
            raise PipelineError(
                f"{row['file_name']} in {theirs} and in {ours} differ in {', '.join(differing)}, so they are no pair; "
                "materialize baseline_images, generated_images and extra_images again."
            )
    return rows


def _strips(
    label: str,
    real: list[NDArray[np.uint8]],
    arms: Mapping[str, tuple[Path, list[dict[str, Any]]]],
    columns: int,
) -> list[Strip]:
    shown = [
        Picture(data_uri(image), f"real, {label}", "", [f"real, {label}", "held out: val"]) for image in real
    ]
    strips = [Strip("real", shown)]
    for title, (folder, rows) in arms.items():
        chosen = spread([row for row in rows if row["label"] == label], columns)
        strips.append(Strip(title, [_picture(title, folder, row) for row in chosen]))
    return strips


def _picture(arm: str, folder: Path, row: Mapping[str, Any]) -> Picture:
    made = [f"{row['steps']} steps"] + ([f"scheduler {row['scheduler']}"] if "scheduler" in row else [])
    lines = [
        f"{arm}, {row['label']}",
        f"prompt: {row['prompt']}",
        f"seed {row['seed']}, {', '.join(made)}",
        f"file {row['file_name']}",
    ]
    uri = data_uri(read_png(folder, row["file_name"]))
    return Picture(uri, f"{arm}, seed {row['seed']}: {row['prompt']}", f"seed {row['seed']}", lines)


def _columns(folder: Path, rows: Sequence[Mapping[str, Any]], real: Mapping[str, NDArray[np.uint8]]) -> int:
    sides = [len(read_png(folder, row["file_name"])) for row in rows[:1]] + [
        images.shape[1] for images in real.values() if len(images)
    ]
    return COLUMNS if max(sides, default=0) <= MODEST else FEWER
