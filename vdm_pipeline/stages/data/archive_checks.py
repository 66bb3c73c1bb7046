"""Checks of an archive: its schema, its labels and its origin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.medmnist_info import DatasetInfo
from vdm_pipeline.stages.data.npz_members import Header, Problem
from vdm_pipeline.stages.data.phantom.series import SPLITS, is_rendered_from

SIZES: tuple[int, ...] = get_args(Data.model_fields["size"].annotation)
Status = Literal["official", "own", "unverified", "phantom"]
"""The file has MedMNIST's MD5; it has the profile's sha256; it has neither; it was rendered here."""


def schema_error(headers: Mapping[str, Header], data: Data, channels: int) -> Problem | None:
    """What is wrong with dtypes, shapes and counts, or None."""
    accepted = _image_shapes(data.size, channels)
    for split in SPLITS:
        images, labels = headers[f"{split}_images"], headers[f"{split}_labels"]
        if images.dtype != np.uint8:
            return Problem(f"{split}_images is {images.dtype}, not uint8", "convert it to uint8, 0 to 255")
        if labels.dtype.kind not in "iu":
            return Problem(f"{split}_labels is {labels.dtype}, not an integer type", "convert it to integers")
        if images.shape[1:] not in accepted:
            expected = ", ".join(map(str, accepted[0]))
            return Problem(
                f"{split}_images has shape {list(images.shape)}, not [n, {expected}]",
                _shape_fix(images.shape[1:], data, channels),
            )
        n_images = images.shape[0]
        if n_images == 0:
            return Problem(f"the split {split} is empty", "put images into it")
        if labels.shape not in ((n_images,), (n_images, 1)):
            return Problem(
                f"{split}_labels has shape {list(labels.shape)} for {n_images} images, "
                "not one label per image",
                f"give it the shape [{n_images}] or [{n_images}, 1]",
            )
    return None


def _image_shapes(size: int, channels: int) -> tuple[tuple[int, ...], ...]:
    """The accepted shapes of an image."""
    return ((size, size), (size, size, 1)) if channels == 1 else ((size, size, channels),)


def _shape_fix(shape: tuple[int, ...], data: Data, channels: int) -> str:
    """What the author of an archive with images of this shape can do."""
    other_channels = 3 if channels == 1 else 1
    if shape in _image_shapes(data.size, other_channels):
        return f"set data.own.channels = {other_channels}"
    for size in SIZES:
        if shape in (*_image_shapes(size, 1), *_image_shapes(size, 3)):
            name = data.model_copy(update={"size": size}).file_name
            return f"set data.size = {size}, and name the file {name}"
    return f"resize its images to {data.size} x {data.size}"


def label_error(labels: Mapping[str, NDArray], class_names: Sequence[str]) -> Problem | None:
    """What is wrong with the values of the labels, or None."""
    last = len(class_names) - 1
    for split, values in labels.items():
        if values.min() < 0 or values.max() > last:
            return Problem(
                f"{split}_labels has values from {values.min()} to {values.max()}, not within 0 to {last}",
                "number the classes from 0, in the order of classes.names",
            )
    present = set(np.unique(labels["train"]).tolist())
    absent = [name for label, name in enumerate(class_names) if label not in present]
    if not absent:
        return None
    return Problem(f"train has no image of class {', '.join(absent)}", "add some, or correct classes.names")


def archive_status(
    path: Path, data: Data, info: DatasetInfo, counts: dict[str, int], digests: dict[str, str]
) -> Status:
    """Where the archive comes from. Raises `ArchiveError` if it is not the one that the profile describes."""
    if data.own:
        _check_own(path, data.own.sha256, digests["sha256"])
        return "own"
    if data.source == "phantom":
        _check_phantom(path, data, info, counts)
        return "phantom"
    if digests["md5"] == info.md5:
        return "official"
    if counts != info.counts:
        raise ArchiveError(
            f"{path}: it does not have the official MD5, and it has {_format(counts)} images, while "
            f"MedMNIST's {data.dataset} has {_format(info.counts)}; {hint(data)}."
        )
    return "unverified"


def _check_own(path: Path, expected: str, sha256: str) -> None:
    if sha256 != expected:
        raise ArchiveError(
            f"{path}: its sha256 is {sha256}, not data.own.sha256 = {expected}; "
            "put the right file there, or set the file's sha256 in the profile."
        )


def _check_phantom(path: Path, data: Data, info: DatasetInfo, counts: dict[str, int]) -> None:
    if not is_rendered_from(data, path):
        raise ArchiveError(f"{path}: it was not rendered from the profile's data section; {hint(data)}.")
    if counts != info.counts:
        raise ArchiveError(
            f"{path}: it has {_format(counts)} phantoms instead of {_format(info.counts)}; {hint(data)}."
        )


def hint(data: Data, fix: str = "") -> str:
    """How to replace a bad archive, as the end of an error message; or ``fix`` for a user's own archive."""
    if data.own and fix:
        return fix
    if data.source == "file":
        origin = "" if data.own else " of MedMNIST"
        return f"put an intact {data.file_name}{origin} there"
    action = "downloads" if data.source == "download" else "renders"
    return f"delete the file, and the next run {action} it again"


def _format(counts: dict[str, int]) -> str:
    return " + ".join(f"{counts[split]} {split}" for split in SPLITS)
