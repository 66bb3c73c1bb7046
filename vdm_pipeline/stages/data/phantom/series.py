"""A series of phantom films as an archive in MedMNIST's format.

The zip comment has the settings of the archive, so a later run knows whether they have changed.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.npz import read_comment, write_npz
from vdm_pipeline.stages.data.phantom.film import render_in_chunks

RENDERER = 2
"""Increase this when the same settings give other films."""
SPLITS = ("train", "val", "test")
PATIENTS_PER_SPLIT = 2**40
"""Each split has its own range of patients: no patient is in two, and split sizes are independent."""
ORDER_STREAM = 2**63
"""Philox streams from here on shuffle the classes. Lower ones belong to the patients."""


def render_archive(data: Data, path: Path, log: Log) -> None:
    """Render the phantoms of ``data`` and write them to ``path``, atomically.

    Images are uint8 ``[n, size, size]``, labels uint8 ``[n, 1]``: 0 normal, 1 pneumonia. The same settings
    give the same bytes. Raises `ArchiveError` before rendering if a class would be missing in train.
    """
    counts = {split: getattr(data, split) for split in SPLITS}
    if not 0 < _n_pneumonia(data, data.train) < data.train:
        raise ArchiveError(
            f"{path}: with data.pneumonia_share = {data.pneumonia_share} and data.train = {data.train}, "
            "train has only one class; set a share between 0 and 1 and enough images."
        )
    arrays: dict[str, NDArray] = {}
    done, total = 0, sum(counts.values())
    chunk_size = max(64, total // 20)
    for position, (split, count) in enumerate(counts.items()):
        labels = split_labels(data, position, count)
        indices = np.arange(count, dtype=np.int64) + position * PATIENTS_PER_SPLIT
        images = np.empty((count, data.size, data.size), np.uint8)
        start = 0
        for films in render_in_chunks(data.seed, indices, labels == 1, data.size, chunk_size):
            images[start : start + len(films)] = films
            start += len(films)
            done += len(films)
            log(f"{path.name}: rendered {done}/{total} phantoms")
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    write_npz(path, arrays, comment=_settings_comment(data))


def split_labels(data: Data, position: int, count: int) -> NDArray[np.uint8]:
    """Labels ``[count]`` of the split at ``position``: exactly the configured share, in a seeded order."""
    rng = np.random.Generator(np.random.Philox(key=np.array([data.seed, ORDER_STREAM + position], np.uint64)))
    return rng.permutation((np.arange(count) < _n_pneumonia(data, count)).astype(np.uint8))


def is_rendered_from(data: Data, path: Path) -> bool:
    """Whether this version of the renderer rendered the file at ``path`` from exactly these settings."""
    return read_comment(path) == _settings_comment(data)


def _n_pneumonia(data: Data, count: int) -> int:
    return round(data.pneumonia_share * count)


def _settings_comment(data: Data) -> str:
    return json.dumps({"phantom renderer": RENDERER, "data": data.model_dump(mode="json")}, sort_keys=True)
