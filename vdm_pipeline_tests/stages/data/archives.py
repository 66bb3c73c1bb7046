"""Small archives in MedMNIST's format, and settings that read them."""

import hashlib
import io
from pathlib import Path

import numpy as np

from vdm_pipeline.settings import Data

NAMES = ("normal", "pneumonia")
COUNTS = {"train": 6, "val": 3, "test": 4}
FILE = Data(dataset="tinymnist", size=28, source="file")
DOWNLOAD = Data(dataset="tinymnist", size=28, source="download")
PHANTOM = Data(dataset="phantom", size=32, source="phantom", train=6, val=2, test=2)


def ignore_log(line: str) -> None:
    """Drop a log line."""


def arrays(
    channels: int = 1, side: int = 28, n_classes: int = 2, **changes: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of a good archive: noise as images, alternating labels. ``changes`` replaces some."""
    rng = np.random.default_rng(0)
    shape = (side, side) if channels == 1 else (side, side, channels)
    result = {}
    for split, count in COUNTS.items():
        result[f"{split}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        result[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % n_classes)[:, None]
    return result | changes


def npz_bytes(**content: np.ndarray) -> bytes:
    """An `.npz` file as NumPy writes it."""
    file = io.BytesIO()
    np.savez_compressed(file, **content)
    return file.getvalue()


GOOD = arrays()
BODY = npz_bytes(**GOOD)
"""The official archive of the data set ``tinymnist``."""
MD5 = hashlib.md5(BODY).hexdigest()


def put(folder: Path, body: bytes, data: Data = FILE) -> Path:
    """Write an archive where the pipeline looks for it."""
    path = folder / data.file_name
    path.write_bytes(body)
    return path
