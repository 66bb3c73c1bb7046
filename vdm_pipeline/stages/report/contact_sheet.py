"""Real, baseline and LoRA images on one PNG."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vdm_pipeline.io.images import image_grid, read_png, resize, write_png
from vdm_pipeline.io.tables import read_rows

COLUMNS = 8
MARGIN = 132
"""Width of the row titles, pixels."""


def contact_sheet(
    real: dict[str, NDArray[np.uint8]], baseline: Path, generated: Path, path: Path, side: int = 96
) -> None:
    """Three rows a class: real, baseline, LoRA; a column of the last two shares its prompt and seed. Colour is kept where there is any."""
    rows = read_rows(generated / "metadata.jsonl")
    titles, cells = [], []
    for name, images in real.items():
        chosen = [row["file_name"] for row in rows if row["label"] == name][:COLUMNS]
        for title, pictures in (
            ("real", list(images[: len(chosen)])),
            ("baseline", [read_png(baseline, file) for file in chosen]),
            ("with LoRA", [read_png(generated, file) for file in chosen]),
        ):
            titles.append(f"{name}\n{title}")
            blank = [np.full((side, side), 255, np.uint8)] * (COLUMNS - len(pictures))
            cells += [resize(picture[None], side)[0] for picture in pictures] + blank
    if any(cell.ndim == 3 for cell in cells):
        cells = [cell if cell.ndim == 3 else np.repeat(cell[..., None], 3, axis=2) for cell in cells]
    grid = image_grid(cells, COLUMNS)
    sheet = Image.new("RGB" if grid.ndim == 3 else "L", (MARGIN + grid.shape[1], grid.shape[0]), "white")
    sheet.paste(Image.fromarray(grid), (MARGIN, 0))
    draw = ImageDraw.Draw(sheet)
    for index, title in enumerate(titles):
        draw.text((6, index * (side + 2) + side // 2 - 14), title, fill="black", font_size=14)
    write_png(path, np.asarray(sheet))
