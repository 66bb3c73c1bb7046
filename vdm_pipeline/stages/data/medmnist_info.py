"""What the archive must contain: from MedMNIST's table, the phantom settings, or `data.own`.

`medmnist` has names, tasks, counts, URLs and MD5s. Its Dataset classes do not check existing files, so they
are not used.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.npz_members import MAX_BYTES
from vdm_pipeline.stages.data.phantom.series import SPLITS

SINGLE_LABEL = ("binary-class", "multi-class", "ordinal-regression")


class DatasetInfo(NamedTuple):
    """``counts`` are images per split. ``counts``, ``url`` and ``md5`` are empty if not published."""

    channels: int
    classes: tuple[str, ...]
    counts: dict[str, int]
    licence: str
    url: str = ""
    md5: str = ""


def dataset_info(data: Data) -> DatasetInfo:
    """What is known of the archive before it is read; no ``classes`` for an archive of your own.

    Raises `ArchiveError` if the pipeline does not support the data set or its size.
    """
    if data.own:
        return DatasetInfo(data.own.channels, (), {}, data.own.licence)
    info = _phantom(data) if data.source == "phantom" else _medmnist(data)
    image_bytes = sum(info.counts.values()) * data.size**2 * info.channels
    if image_bytes > MAX_BYTES:
        raise ArchiveError(
            f"data.size = {data.size}: the images of {data.dataset} need {image_bytes / 2**30:.1f} GiB of "
            f"memory, more than the allowed {MAX_BYTES / 2**30:.0f} GiB; set a smaller data.size."
        )
    return info


def _phantom(data: Data) -> DatasetInfo:
    counts = {split: getattr(data, split) for split in SPLITS}
    return DatasetInfo(1, ("normal", "pneumonia"), counts, "MIT (rendered by this package)")


def _medmnist(data: Data) -> DatasetInfo:
    table = medmnist_table()
    _check_supported(data.dataset, table)
    info = table[data.dataset]
    suffix = "" if data.size == 28 else f"_{data.size}"
    if f"MD5{suffix}" not in info:
        raise ArchiveError(
            f"data.size = {data.size} is not a size of MedMNIST's {data.dataset}; set 28, 64, 128 or 224."
        )
    return DatasetInfo(
        channels=info["n_channels"],
        classes=tuple(info["label"][str(label)] for label in range(len(info["label"]))),
        counts=dict(info["n_samples"]),
        licence=str(info["license"]),
        url=info[f"url{suffix}"],
        md5=info[f"MD5{suffix}"],
    )


@cache
def medmnist_table() -> dict[str, dict[str, Any]]:
    """``medmnist.INFO``, read from its source: importing it creates ``~/.medmnist`` and loads torch."""
    spec = find_spec("medmnist")
    assert spec and spec.origin
    module = ast.parse((Path(spec.origin).parent / "info.py").read_text("utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return dict(ast.literal_eval(values["INFO"]))


def _check_supported(dataset: str, table: dict[str, dict[str, Any]]) -> None:
    """Raise `ArchiveError` unless ``dataset`` is one of MedMNIST's with 2-D images of one label each."""
    supported = sorted(
        flag for flag, info in table.items() if info["task"] in SINGLE_LABEL and not flag.endswith("3d")
    )
    if dataset in supported:
        return
    if dataset not in table:
        raise ArchiveError(
            f"data.dataset = '{dataset}' is not a MedMNIST data set; set one of {', '.join(supported)}, or "
            "phantom, or describe your own archive in data.own."
        )
    kind = "three-dimensional" if dataset.endswith("3d") else f"of task {table[dataset]['task']}"
    raise ArchiveError(
        f"data.dataset = '{dataset}' is {kind}, and the pipeline needs 2-D images with one label each; "
        f"set one of {', '.join(supported)}."
    )
