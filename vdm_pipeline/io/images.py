"""PNG files: written with their provenance in text chunks, read with limits on size and format."""

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
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Modes with at most eight bits per channel. The conversion to grey would clip the others."""


def write_png(
    path: Path, image: NDArray[np.uint8], text: Mapping[str, str] | None = None, *, sync_folder: bool = True
) -> None:
    """Write ``[h, w]`` or ``[h, w, 3]`` uint8 atomically, with ``text`` in the PNG's text chunks."""
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    with atomic_file(path, sync_folder) as temporary:
        Image.fromarray(image).save(temporary, "PNG", pnginfo=chunks)


def read_png(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read ``folder/name`` as grey ``[h, w]`` or RGB ``[h, w, 3]``.

    Raises `PipelineError` if the name leaves the folder, or if the file is not an eight-bit PNG of at most
    `MAX_SIDE` pixels per side.
    """
    if not isinstance(name, str) or not name.isprintable():
        raise PipelineError(f"{name!r} in {folder} is not a file name; materialize its asset again.")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise PipelineError(f"'{name}' in {folder} is outside that folder; correct its metadata.jsonl.")
    try:
        if path.exists() and not path.is_file():  # opening a named pipe would block
            raise OSError
        with Image.open(path, formats=["PNG"]) as image:
            _check_format(path, image)
            return np.asarray(image) if image.mode in ("L", "RGB") else _to_grey_or_rgb(image)
    except (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise PipelineError(
            f"{path} cannot be read as an image ({type(error).__name__}); materialize its asset again."
        ) from None


def _to_grey_or_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An image of another mode, such as one with a palette or transparency: RGB if it has colours."""
    rgb = np.asarray(image.convert("RGB"))
    return rgb[..., 0] if (rgb == rgb[..., :1]).all() else rgb


def _check_format(path: Path, image: Image.Image) -> None:
    """Raise `PipelineError` for a header with too many pixels or bits."""
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise PipelineError(
            f"{path} is {width} x {height} pixels; save it with at most {MAX_SIDE} pixels per side."
        )
    if image.mode not in EIGHT_BIT_MODES:
        raise PipelineError(f"{path} has more than eight bits per channel; save it with eight.")


def read_folder(folder: Path, rows: list[dict[str, Any]]) -> NDArray[np.uint8]:
    """The images named by ``rows``, ``[n, h, w]`` or ``[n, h, w, 3]``.

    Raises `PipelineError` if there are none, or if their shapes differ.
    """
    names = [row["file_name"] for row in rows]
    images = [read_png(folder, name) for name in names]
    if not images:
        raise PipelineError(f"{folder} has no images; materialize its asset again.")
    for name, image in zip(names, images, strict=True):
        if image.shape != images[0].shape:
            raise PipelineError(
                f"{folder / name} differs from {names[0]} in size or channels; materialize its asset again."
            )
    return np.stack(images)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize to ``size`` x ``size``, bicubic; images of that size are returned unchanged."""
    if images.shape[1:3] == (size, size):
        return images
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in resized])


def image_grid(images: list[NDArray[np.uint8]], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Grey or RGB images of one size in rows of ``columns``; gaps and missing images are white."""
    height, width, *channels = images[0].shape
    rows = -(-len(images) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *channels)
    grid = np.full(shape, 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def data_uri(image: NDArray[np.uint8]) -> str:
    """The image as a PNG in a ``data:`` URI, for HTML pages."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def webp_uri(image: NDArray[np.uint8], quality: int | None = None) -> str:
    """The image as a WebP in a ``data:`` URI, for Dagster's markdown; without loss if no quality is given.

    A plot takes a third of its PNG. More effort than this makes it 5% smaller and takes 50 times as long.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=quality is None, quality=quality or 50, method=4)
    return _uri("webp", buffer.getvalue())


def file_uri(path: Path) -> str:
    """A PNG file as a ``data:`` URI."""
    return _uri("png", path.read_bytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
