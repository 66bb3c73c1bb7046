"""PNG files: written with their provenance inside, read with limits."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import atomic_file

MAX_SIDE = 4096
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Of eight bits a channel; to make the others grey would clip them."""


def write_png(
    path: Path, image: NDArray[np.uint8], text: Mapping[str, str] | None = None, *, sync_folder: bool = True
) -> None:
    """Write ``[h, w]`` or ``[h, w, 3]`` uint8 as `atomic_file` does, with ``text`` in the PNG's text chunks."""
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    with atomic_file(path, sync_folder) as temporary:
        Image.fromarray(image).save(temporary, "PNG", pnginfo=chunks)


def read_png(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read ``folder/name``; raises `PipelineError` if the name leaves the folder or the file is no sane PNG of eight bits."""
    if not isinstance(name, str) or not name.isprintable():
        raise PipelineError(f"{name!r} in {folder} is no file's name; materialize its asset again.")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise PipelineError(f"'{name}' in {folder} leaves that folder; correct its metadata.jsonl.")
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError
        with Image.open(path, formats=["PNG"]) as image:
            if max(image.size) > MAX_SIDE:
                raise PipelineError(
                    f"{path} is {image.size[0]} x {image.size[1]} pixels; at most {MAX_SIDE} a side are read."
                )
            if image.mode not in MODES:
                raise PipelineError(f"{path} has more than eight bits a channel; save it with eight.")
            return np.asarray(image.convert("L") if image.mode not in ("L", "RGB") else image)
    except (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise PipelineError(
            f"{path} cannot be read as an image ({type(error).__name__}); materialize its asset again."
        ) from None


def read_folder(folder: Path, rows: list[dict[str, Any]]) -> NDArray[np.uint8]:
    """The images that ``rows`` name, ``[n, h, w]`` or ``[n, h, w, 3]``; raises `PipelineError` if there are none, or of several shapes."""
    images = [read_png(folder, row["file_name"]) for row in rows]
    if not images:
        raise PipelineError(f"{folder} holds no image; materialize its asset again.")
    other = next(
        (row["file_name"] for row, image in zip(rows, images, strict=True) if image.shape != images[0].shape),
        None,
    )
    if other is not None:
        raise PipelineError(
            f"{folder / other} has another size or other channels than {rows[0]['file_name']}; materialize its asset again."
        )
    return np.stack(images)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bicubic to ``size`` x ``size``; images that have it already are returned as they are."""
    if images.shape[1:3] == (size, size):
        return images
    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
            for image in images
        ]
    )


def image_grid(images: list[NDArray[np.uint8]], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Grey or RGB images of one size in rows of ``columns``, on white; a short last row is filled up with white."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, *images[0].shape[2:]), 255, np.uint8
    )
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as a PNG inside a ``data:`` URI, for pages and for Dagster's markdown."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return _png_uri(buffer.getvalue())


def file_uri(path: Path) -> str:
    """A PNG file inside a ``data:`` URI."""
    return _png_uri(path.read_bytes())


def _png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
