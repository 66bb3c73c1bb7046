"""The gallery: a row of real images, then one row per arm; images in a column share prompt and seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import data_uri, read_png
from vdm_pipeline.io.tables import read_json, read_rows
from vdm_pipeline.stages.report.pictures import THUMBNAIL_SIDE, evenly_spaced

COLUMNS, LARGE_COLUMNS = 8, 4
"""Images per row; fewer if they are larger than thumbnails, so that the page stays small."""
SHARED_BY_ARMS = ("label", "prompt", "seed")
"""What all images of a column must share."""
SHARED_WITH_BASELINE = (*SHARED_BY_ARMS, "scheduler", "steps", "guidance_scale", "size", "base_model")
"""What LoRA and baseline images must share. Extra arms may differ in the additional keys."""


class Picture(NamedTuple):
    """An image, a short text below it, and lines that are shown when it is enlarged."""

    uri: str
    alt: str
    short: str
    lines: list[str]


class GalleryRow(NamedTuple):
    """A row of the gallery."""

    title: str
    pictures: list[Picture]


class Arm(NamedTuple):
    """An arm's folder, and its rows of ``metadata.jsonl``."""

    folder: Path
    rows: list[dict[str, Any]]


def gallery(
    class_names: Sequence[str],
    real: Mapping[str, NDArray[np.uint8]],
    baseline: Path,
    generated: Path,
    extra: Path | None = None,
) -> dict[str, list[GalleryRow]]:
    """Rows by class: real images ``[n, h, w]``, the baseline, the LoRA, and the arms in folder ``extra``.

    Raises `PipelineError` if the arms do not hold the same prompts and seeds.
    """
    lora = Arm(generated, paired_rows(baseline, generated, SHARED_WITH_BASELINE))
    arms = {"baseline": Arm(baseline, paired_rows(generated, baseline, SHARED_BY_ARMS)), "LoRA": lora}
    for name in read_json(extra / "arms.json") if extra else ():
        arms[name] = Arm(extra / name, paired_rows(generated, extra / name, SHARED_BY_ARMS))
    columns = _column_count(lora, real)
    return {
        name: [_real_row(name, list(real.get(name, ()))[:columns]), *_arm_rows(name, arms, columns)]
        for name in class_names
    }


def paired_rows(reference: Path, folder: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The metadata rows of ``folder``.

    Raises `PipelineError` unless ``reference`` has an image of the same name, with equal ``keys``, for each.
    """
    references = {row["file_name"]: row for row in read_rows(reference / "metadata.jsonl", ("file_name",))}
    rows = read_rows(folder / "metadata.jsonl", ("file_name", "label", "prompt"))
    for row in rows:
        other = references.get(row["file_name"], {})
        differing = [key for key in keys if other.get(key) != row.get(key)]
        if differing:
            raise PipelineError(
                f"{row['file_name']} in {reference} and in {folder} are not a pair: they differ in "
                f"{', '.join(differing)}; "
                "materialize baseline_images, generated_images and extra_images again."
            )
    return rows


def _real_row(label: str, images: list[NDArray[np.uint8]]) -> GalleryRow:
    pictures = []
    for index, image in enumerate(images, 1):
        lines = [f"real, {label}", f"val, image {index} of this class"]
        pictures.append(Picture(data_uri(image), ", ".join(lines), "", lines))
    return GalleryRow("real", pictures)


def _arm_rows(label: str, arms: Mapping[str, Arm], columns: int) -> list[GalleryRow]:
    rows = []
    for title, arm in arms.items():
        shown = evenly_spaced([row for row in arm.rows if row["label"] == label], columns)
        rows.append(GalleryRow(title, [_picture(title, arm.folder, row) for row in shown]))
    return rows


def _picture(arm: str, folder: Path, row: Mapping[str, Any]) -> Picture:
    scheduler = f", scheduler {row['scheduler']}" if "scheduler" in row else ""
    lines = [
        f"{arm}, {row['label']}",
        f"prompt: {row['prompt']}",
        f"seed {row['seed']}, {row['steps']} steps{scheduler}",
        f"file {row['file_name']}",
    ]
    uri = data_uri(read_png(folder, row["file_name"]))
    return Picture(uri, f"{arm}, seed {row['seed']}: {row['prompt']}", f"seed {row['seed']}", lines)


def _column_count(arm: Arm, real: Mapping[str, NDArray[np.uint8]]) -> int:
    sides = [len(read_png(arm.folder, row["file_name"])) for row in arm.rows[:1]]
    sides += [images.shape[1] for images in real.values() if len(images)]
    return COLUMNS if max(sides, default=0) <= THUMBNAIL_SIDE else LARGE_COLUMNS
