"""A series of phantom films as an archive in MedMNIST's format.

The zip comment holds the settings that the archive was rendered from, so that a later run knows whether it still fits.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.npz import read_comment, write_npz
from vdm_pipeline.stages.data.phantom.film import render_in_chunks

RENDERER = 2
"""Raise this when the same settings give other films."""
SPLITS = ("train", "val", "test")
PATIENTS_A_SPLIT = 2**40
"""Each split has its own range of patients: none is in two, and the length of one does not change another."""
ORDER_STREAM = 2**63
"""Philox streams from here on shuffle the classes; those below belong to the patients."""


def render_archive(data: Data, path: Path, log: Callable[[str], None]) -> None:
    """Render the phantoms that ``data`` asks for and write them to ``path``, atomically.

    Images are uint8 ``[n, size, size]``, labels uint8 ``[n, 1]``: 0 normal, 1 pneumonia. The same settings give the same
    bytes. Raises `ArchiveError`, before anything is rendered, when train would lack a class.
    """
    counts = {split: getattr(data, split) for split in SPLITS}
    if not 0 < _sick(data, data.train) < data.train:
        raise ArchiveError(
            f"{path}: data.pneumonia_share = {data.pneumonia_share} of data.train = {data.train} phantoms leaves train "
            "without a class; set a share between 0 and 1 and enough images."
        )
    arrays: dict[str, NDArray] = {}
    done, total = 0, sum(counts.values())
    for position, (split, count) in enumerate(counts.items()):
        labels = split_labels(data, position, count)
        indices = np.arange(count, dtype=np.int64) + position * PATIENTS_A_SPLIT
        images = np.empty((count, data.size, data.size), np.uint8)
        at = 0
        for films in render_in_chunks(data.seed, indices, labels == 1, data.size, chunk=max(64, total // 20)):
            images[at : at + len(films)] = films
            at, done = at + len(films), done + len(films)
            log(f"{path.name}: rendered {done} of {total} phantoms")
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    write_npz(path, arrays, comment=_record(data))


def split_labels(data: Data, position: int, count: int) -> NDArray[np.uint8]:
    """Labels ``[count]`` of the split at ``position``: exactly the share asked for, in an order drawn from the seed."""
    rng = np.random.Generator(np.random.Philox(key=np.array([data.seed, ORDER_STREAM + position], np.uint64)))
    return rng.permutation((np.arange(count) < _sick(data, count)).astype(np.uint8))


def is_rendered_from(data: Data, path: Path) -> bool:
    """Whether the file at ``path`` was rendered by this renderer from exactly these settings."""
    return read_comment(path) == _record(data)


def _sick(data: Data, count: int) -> int:
    return round(data.pneumonia_share * count)


def _record(data: Data) -> str:
    return json.dumps({"phantom renderer": RENDERER, "data": data.model_dump(mode="json")}, sort_keys=True)
