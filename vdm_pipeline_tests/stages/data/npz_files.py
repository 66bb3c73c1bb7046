"""Small `.npz` files, and how the tests read them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vdm_pipeline.stages.data.npz import open_npz
from vdm_pipeline.stages.data.npz_members import Header

ARRAYS = {
    "images": np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
    "labels": np.array([[0], [1], [1]], np.int16),
}
KEYS = tuple(ARRAYS)
HINT = "replace the file"


def accept(headers: Mapping[str, Header]) -> None:
    """Accept all headers."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Read both arrays."""
    file = open_npz(path, KEYS, accept, HINT)
    return {key: file.array(key) for key in KEYS}


def npy(array: np.ndarray, **options) -> bytes:
    """An array as a `.npy` file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


MEMBERS = {f"{key}.npy": npy(array) for key, array in ARRAYS.items()}


def write_zip(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip with these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path
