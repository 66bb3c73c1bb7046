"""`raw_npz`: obtain the archive that the profile configures, check it, and read its images on demand."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError, PipelineError
from vdm_pipeline.io.atomic import remove_leftovers
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.archive_checks import Status, archive_status, hint, label_error, schema_error
from vdm_pipeline.stages.data.medmnist_info import dataset_info
from vdm_pipeline.stages.data.npz import Npz, open_npz
from vdm_pipeline.stages.data.phantom.series import SPLITS, is_rendered_from, render_archive

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader, Dataset

KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
READ_ROWS = 1024
MANUAL_DOWNLOAD = 'fetch the file yourself, put it there and set data.source = "file"'


@dataclass(frozen=True, eq=False)
class Split:
    """Labels ``[n]``, int64, and images ``[n, h, w]`` (grey) or ``[n, h, w, 3]``, uint8, read on demand."""

    labels: NDArray[np.int64]
    batches: Callable[[int], Iterator[NDArray[np.uint8]]]
    """``batches(size)`` gives the images in order. Its memory does not grow with their number."""

    @classmethod
    def from_arrays(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> "Split":
        """A split of images in memory."""

        def batches(size: int) -> Iterator[NDArray[np.uint8]]:
            for start in range(0, len(images), size):
                yield images[start : start + size]

        return cls(labels, batches)

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """All images. They stay in memory."""
        images, start = np.empty(0, np.uint8), 0
        for batch in self.batches(READ_ROWS):
            if start == 0:
                images = np.empty((len(self), *batch.shape[1:]), np.uint8)
            images[start : start + len(batch)] = batch
            start += len(batch)
        return images

    def take(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """The images at ``rows``, in that order. Reads the file once and keeps only these in memory."""
        taken: dict[int, NDArray[np.uint8]] = {}
        distinct, start = set(rows), 0
        for batch in self.batches(READ_ROWS):
            for row in distinct.intersection(range(start, start + len(batch))):
                taken[row] = batch[row - start].copy()
            start += len(batch)
        return np.stack([taken[row] for row in rows]) if rows else np.empty(0, np.uint8)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Archive:
    """A checked archive and its origin. Labels are in memory, images in the file."""

    dataset: str
    size: int
    splits: dict[str, Split]
    path: Path
    sha256: str
    md5: str
    status: Status

    @property
    def n(self) -> int:
        """Number of images in all splits."""
        return sum(len(split) for split in self.splits.values())

    def verify(self) -> "Archive":
        """Read every image once. Raises `ArchiveError` if one is damaged, before a later stage finds it."""
        for split in self.splits.values():
            for _ in split.batches(READ_ROWS):
                pass
        return self

    def image_ids(self, split: str) -> list[str]:
        """One id per image, such as ``pneumoniamnist_train_000123``."""
        return [f"{self.dataset}_{split}_{index:06d}" for index in range(len(self.splits[split]))]

    def images_by_id(self, split: str, ids: Iterable[str]) -> NDArray[np.uint8]:
        """The images with these ids, in that order. Raises `PipelineError` for an id of another split."""
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids(split))}
        rows = []
        for image_id in ids:
            if image_id not in row_of:
                raise PipelineError(
                    f"'{image_id}' is not a {split} image of {self.path}; materialize labeled_dataset again."
                )
            rows.append(row_of[image_id])
        return self.splits[split].take(rows)

    def class_counts(self, n_classes: int) -> dict[str, list[int]]:
        """Images per class, by split."""
        return {
            name: np.bincount(split.labels, minlength=n_classes).tolist()
            for name, split in self.splits.items()
        }

    def torch_dataset(
        self, split: str, transform: Callable[["torch.Tensor"], Any] | None = None
    ) -> "Dataset[tuple[Any, int]]":
        """The split as a torch dataset of (image, label).

        The image is float32 ``[c, h, w]`` in [0, 1], or what ``transform`` returns for it.
        """
        import torch
        from torch.utils.data import Dataset

        images, labels = self.splits[split].images, self.splits[split].labels

        class SplitDataset(Dataset[tuple[Any, int]]):
            def __len__(self) -> int:
                return len(labels)

            def __getitem__(self, index: int) -> tuple[Any, int]:
                channels_first = np.atleast_3d(images[index]).transpose(2, 0, 1)
                image = torch.from_numpy(channels_first.astype(np.float32) / 255)
                return (transform(image) if transform else image), int(labels[index])

        return SplitDataset()

    def torch_loader(
        self, split: str, batch_size: int, shuffle: bool = False, seed: int = 0
    ) -> "DataLoader[tuple[Any, int]]":
        """Batches of `torch_dataset`; ``seed`` determines the order if ``shuffle``."""
        import torch
        from torch.utils.data import DataLoader

        generator = torch.Generator().manual_seed(seed)
        return DataLoader(
            self.torch_dataset(split), batch_size=batch_size, shuffle=shuffle, generator=generator
        )


def _batches(file: Npz, key: str, size: int) -> Iterator[NDArray[np.uint8]]:
    """The images in batches; a single channel gets no axis of its own."""
    for batch in file.rows(key, size):
        yield batch[..., 0] if batch.shape[-1] == 1 and batch.ndim == 4 else batch


def obtain_archive(data: Data, folder: Path, log: Log, mirror: str | None = None) -> Path:
    """Render, download or find the archive in ``folder``, and return its path.

    `read_archive` checks its content. ``mirror`` is the URL of a folder to download from instead of
    MedMNIST's. Raises `ArchiveError` if the archive is missing, if the server refuses it or sends another
    file, or if another file has its name; `NetworkError` if the server does not answer.
    """
    info = dataset_info(data)
    path = folder / data.file_name
    _check_regular_file(folder, path)
    if data.source == "phantom":
        if not is_rendered_from(data, path):
            remove_leftovers(folder, f".{path.name}.*")
            render_archive(data, path, log)
    elif data.source == "file":
        _check_exists(path, data)
    elif not path.exists():
        _download(path, info.url, info.md5, log, mirror)
    elif digest(path, "md5") != info.md5:
        raise ArchiveError(
            f"{path} does not have the official MD5 {info.md5} of the download; move it away, "
            'or set data.source = "file" to use it.'
        )
    return path


def _check_regular_file(folder: Path, path: Path) -> None:
    """Raise `ArchiveError` if ``folder`` is not a folder or ``path`` is not a file, where they exist."""
    if folder.exists() and not folder.is_dir():
        raise ArchiveError(f"{folder} is not a folder, and the archive is stored in it; move it away.")
    if path.is_file() or not os.path.lexists(path):
        return
    if path.is_dir():
        kind = "a folder"
    elif path.exists():
        kind = "a pipe or a device"
    else:
        kind = f"a broken link to {os.readlink(path)!r}"
    raise ArchiveError(f"{path} is {kind}, not an archive; move it away.")


def _check_exists(path: Path, data: Data) -> None:
    if not path.exists():
        download = "" if data.own else ' set data.source = "download" in the profile,'
        raise ArchiveError(
            f"{path} is missing; put the archive there,{download} or use the demo profile (VDM_PROFILE=demo)."
        )


def _download(path: Path, official_url: str, md5: str, log: Log, mirror: str | None) -> None:
    url = f"{mirror}/{path.name}" if mirror else official_url
    fix = f"correct execution.archive_mirror, or {MANUAL_DOWNLOAD}" if mirror else MANUAL_DOWNLOAD
    log(f"{path.name}: downloading {url}")
    fetch(Remote(url, path, "md5", md5, hint=fix), log)


def read_archive(path: Path, data: Data, class_names: Sequence[str]) -> Archive:
    """Open the archive at ``path`` and check it. The checksums of the images are checked on reading.

    Raises `ArchiveError` with the file or the field, what is wrong, and how to fix it.
    """
    info = dataset_info(data)
    if info.classes and len(class_names) != len(info.classes):
        raise ArchiveError(
            f"classes.names has {len(class_names)} names, but {data.dataset} has {len(info.classes)} classes "
            f"({', '.join(info.classes)}); give one name per class, in this order."
        )
    check = partial(schema_error, data=data, channels=info.channels)
    file = open_npz(path, KEYS, check, hint(data), may_edit=data.own is not None)
    labels = {split: file.array(f"{split}_labels").reshape(-1) for split in SPLITS}
    error = label_error(labels, class_names)
    if error:
        raise ArchiveError(f"{path}: {error.sentence}; {hint(data, error.fix)}.")
    splits = {
        split: Split(labels[split].astype(np.int64), partial(_batches, file, f"{split}_images"))
        for split in SPLITS
    }
    counts = {name: len(split) for name, split in splits.items()}
    sha256, md5 = digest(path, "sha256"), digest(path, "md5")
    status = archive_status(path, data, info, counts, {"sha256": sha256, "md5": md5})
    return Archive(data.dataset, data.size, splits, path, sha256, md5, status)
