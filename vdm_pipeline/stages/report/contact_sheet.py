"""A PNG with real images and images without (baseline) and with the LoRA."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vdm_pipeline.io.images import image_grid, read_png, resize, write_png
from vdm_pipeline.io.tables import read_rows

COLUMNS = 8
TITLE_WIDTH = 132
"""Width of the row titles in pixels."""
TITLE_SIZE = 14
"""Font size of the row titles."""

Images = list[NDArray[np.uint8]]


def contact_sheet(
    real: dict[str, NDArray[np.uint8]], baseline: Path, generated: Path, path: Path, side: int = 96
) -> None:
    """Three rows per class: real, baseline, with LoRA. Columns of the last two share prompt and seed.

    The sheet is RGB if any image is.
    """
    rows = _sheet_rows(real, baseline, generated)
    blank = np.full((side, side), 255, np.uint8)
    cells: Images = []
    for pictures in rows.values():
        cells += [resize(picture[None], side)[0] for picture in pictures]
        cells += [blank] * (COLUMNS - len(pictures))
    grid = image_grid(_same_channels(cells), COLUMNS)
    sheet = Image.new("RGB" if grid.ndim == 3 else "L", (TITLE_WIDTH + grid.shape[1], grid.shape[0]), "white")
    sheet.paste(Image.fromarray(grid), (TITLE_WIDTH, 0))
    draw = ImageDraw.Draw(sheet)
    for index, title in enumerate(rows):
        top = index * (side + 2) + side // 2 - TITLE_SIZE
        draw.text((6, top), title, fill="black", font_size=TITLE_SIZE)
    write_png(path, np.asarray(sheet))


def _sheet_rows(real: dict[str, NDArray[np.uint8]], baseline: Path, generated: Path) -> dict[str, Images]:
    """Images by the title of their row."""
    metadata = read_rows(generated / "metadata.jsonl")
    rows: dict[str, Images] = {}
    for name, images in real.items():
        files = [row["file_name"] for row in metadata if row["label"] == name][:COLUMNS]
        rows[f"{name}\nreal"] = list(images[: len(files)])
        rows[f"{name}\nbaseline"] = [read_png(baseline, file) for file in files]
        rows[f"{name}\nwith LoRA"] = [read_png(generated, file) for file in files]
    return rows


def _same_channels(images: Images) -> Images:
    """All images as RGB if any is, else as they are."""
    if all(image.ndim == 2 for image in images):
        return images
    return [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
