"""`raw_npz`: the archive of images, had from where the profile says and checked; images are read when they are asked for."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.errors import ArchiveError, PipelineError
from vdm_pipeline.io.atomic import remove_leftovers
from vdm_pipeline.io.download import Remote, fetch
from vdm_pipeline.io.hashing import digest
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.medmnist_info import Facts, facts_of
from vdm_pipeline.stages.data.npz import Header, open_npz
from vdm_pipeline.stages.data.phantom.series import SPLITS, is_rendered_from, render_archive

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader, Dataset

Status = Literal["official", "own", "unverified", "phantom"]
"""Bytes that MedMNIST's MD5 vouches for; that the profile's sha256 does; that nothing does; rendered here."""
KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
READ_ROWS = 1024
BY_HAND = 'fetch the file yourself, put it there and set data.source = "file"'


@dataclass(frozen=True, eq=False)
class Split:
    """Labels ``[n]``, int64, and images ``[n, h, w]`` (grey) or ``[n, h, w, 3]``, uint8, which are read when asked for."""

    labels: NDArray[np.int64]
    batches: Callable[[int], Iterator[NDArray[np.uint8]]]
    """The images in order, so many at a time; memory does not grow with their number."""

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> "Split":
        """A split of images that are in memory already."""
        return cls(
            labels, lambda count: (images[start : start + count] for start in range(0, len(images), count))
        )

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """All images, in memory from then on."""
        at, whole = 0, np.empty(0, np.uint8)
        for batch in self.batches(READ_ROWS):
            whole = whole if at else np.empty((len(self), *batch.shape[1:]), np.uint8)
            whole[at : at + len(batch)] = batch
            at += len(batch)
        return whole

    def take(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """The images of these rows, ``[len(rows), ...]`` in their order; read in one pass, without the others in memory."""
        found: dict[int, NDArray[np.uint8]] = {}
        start = 0
        wanted = set(rows)
        for batch in self.batches(READ_ROWS):
            found |= {
                row: batch[row - start].copy() for row in wanted & set(range(start, start + len(batch)))
            }
            start += len(batch)
        return np.stack([found[row] for row in rows]) if rows else np.empty(0, np.uint8)

    def __len__(self) -> int:
        """Images in the split."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Archive:
    """A checked archive, and where it came from; labels are in memory, images in the file."""

    dataset: str
    size: int
    splits: dict[str, Split]
    path: Path
    sha256: str
    md5: str
    status: Status

    @property
    def n(self) -> int:
        """Images in all splits together."""
        return sum(len(split) for split in self.splits.values())

    def verify(self) -> "Archive":
        """Read every image once, so that a damaged one raises `ArchiveError` here and not in a later stage."""
        for split in self.splits.values():
            for _ in split.batches(READ_ROWS):
                pass
        return self

    def image_ids(self, split: str) -> list[str]:
        """One name an image, such as ``pneumoniamnist_train_000123``."""
        return [f"{self.dataset}_{split}_{index:06d}" for index in range(len(self.splits[split]))]

    def pictures(self, split: str, ids: Iterable[str]) -> NDArray[np.uint8]:
        """The images with these ids, in their order. Raises `PipelineError` for an id that is not the split's."""
        places = {name: place for place, name in enumerate(self.image_ids(split))}
        wanted = list(ids)
        stranger = next((name for name in wanted if name not in places), None)
        if stranger is not None:
            raise PipelineError(
                f"'{stranger}' is no {split} image of {self.path}; materialize labeled_dataset again."
            )
        return self.splits[split].take([places[name] for name in wanted])

    def class_counts(self, n_classes: int) -> dict[str, list[int]]:
        """Images of each class, by split."""
        return {
            name: np.bincount(split.labels, minlength=n_classes).tolist()
            for name, split in self.splits.items()
        }

    def dataset_for(
        self, split: str, transform: Callable[["torch.Tensor"], Any] | None = None
    ) -> "Dataset[tuple[Any, int]]":
        """The split for torch: each item is (float32 ``[c, h, w]`` in [0, 1], label), the image through ``transform``."""
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

    def loader(
        self, split: str, batch_size: int, shuffle: bool = False, seed: int = 0
    ) -> "DataLoader[tuple[Any, int]]":
        """Batches of `dataset_for`; ``seed`` fixes the order of a shuffled one."""
        import torch
        from torch.utils.data import DataLoader

        generator = torch.Generator().manual_seed(seed)
        return DataLoader(
            self.dataset_for(split), batch_size=batch_size, shuffle=shuffle, generator=generator
        )


def obtain_archive(data: Data, folder: Path, log: Callable[[str], None], mirror: str | None = None) -> Path:
    """See to it that the archive stands in ``folder`` and return its path; `read_archive` then checks what is in it.

    ``mirror`` is the folder of a server to download from, instead of MedMNIST's. Raises `ArchiveError` when the archive is missing,
    its download is refused or another file, or another file is in its place, and `NetworkError` when the server does not answer.
    """
    facts = facts_of(data)
    path = folder / data.file_name
    _refuse_obstacles(folder, path)
    if data.source == "phantom":
        if not is_rendered_from(data, path):
            remove_leftovers(folder, f".{path.name}.*")
            render_archive(data, path, log)
    elif data.source == "file":
        if not path.exists():
            download = "" if data.own else ' set data.source = "download" in the profile,'
            raise ArchiveError(
                f"{path} is missing; put the archive there,{download} or use the demo profile (VDM_PROFILE=demo)."
            )
    elif not path.exists():
        url = f"{mirror}/{path.name}" if mirror else facts.url
        log(f"{path.name}: downloading {url}")
        fetch(
            Remote(
                url,
                path,
                "md5",
                facts.md5,
                hint=f"{'correct execution.archive_mirror, or ' if mirror else ''}{BY_HAND}",
            ),
            log,
        )
    elif digest(path, "md5") != facts.md5:
        raise ArchiveError(
            f"{path} stands in the way of the download and has not the official MD5 {facts.md5}; move it away, "
            'or set data.source = "file" to use it as it is.'
        )
    return path


def _refuse_obstacles(folder: Path, path: Path) -> None:
    """Raise `ArchiveError` if something that is no file stands where the archive is to stand, or a file in the place of its folder."""
    if folder.exists() and not folder.is_dir():
        raise ArchiveError(f"{folder} is no folder, and the archive is to stand in it; move it away.")
    if path.is_file() or not os.path.lexists(path):
        return
    found = (
        "a folder"
        if path.is_dir()
        else "a pipe or a device"
        if path.exists()
        else f"a link to {os.readlink(path)!r}, which is not there"
    )
    raise ArchiveError(f"{path} is {found}, and the archive is to stand there; move it away.")


def read_archive(path: Path, data: Data, class_names: Sequence[str]) -> Archive:
    """Open the archive at ``path`` and check all of it but the images' checksums, which are checked as they are read.

    Raises `ArchiveError`: one sentence that names the file or the field, the fault and the mend.
    """
    facts, hint = facts_of(data), _hint(data)
    if facts.classes and len(class_names) != len(facts.classes):
        raise ArchiveError(
            f"classes.names has {len(class_names)} names, but {data.dataset} has {len(facts.classes)} classes "
            f"({', '.join(facts.classes)}); give one name a class, in this order."
        )
    file = open_npz(path, KEYS, lambda headers: _schema_fault(headers, data.size, facts.channels), hint)
    labels = {split: file.array(f"{split}_labels").reshape(-1) for split in SPLITS}
    fault = _label_fault(labels, class_names)
    if fault:
        raise ArchiveError(f"{path}: {fault}; {hint}.")
    splits = {s: Split(labels[s].astype(np.int64), partial(file.rows, f"{s}_images")) for s in SPLITS}
    digests = {algorithm: digest(path, algorithm) for algorithm in ("sha256", "md5")}
    status = _status(path, data, facts, {name: len(split) for name, split in splits.items()}, digests)
    return Archive(data.dataset, data.size, splits, path, **digests, status=status)


def _schema_fault(headers: Mapping[str, Header], size: int, channels: int) -> str | None:
    """What is wrong with dtypes, shapes and counts, or None."""
    wanted = (size, size) if channels == 1 else (size, size, channels)
    for split in SPLITS:
        images, labels = headers[f"{split}_images"], headers[f"{split}_labels"]
        if images.dtype != np.uint8:
            return f"{split}_images is {images.dtype}, not uint8"
        if labels.dtype.kind not in "iu":
            return f"{split}_labels is {labels.dtype}, not an integer type"
        if images.shape[1:] != wanted:
            return f"{split}_images has shape {list(images.shape)}, not [n, {', '.join(map(str, wanted))}]"
        if images.shape[0] == 0:
            return f"the split {split} is empty"
        if labels.shape not in ((images.shape[0],), (images.shape[0], 1)):
            return f"{split}_labels has shape {list(labels.shape)} for {images.shape[0]} images, not one label an image"
    return None


def _label_fault(labels: Mapping[str, NDArray], class_names: Sequence[str]) -> str | None:
    """What is wrong with the labels' values, or None."""
    last = len(class_names) - 1
    for split, values in labels.items():
        if values.min() < 0 or values.max() > last:
            return f"{split}_labels runs from {values.min()} to {values.max()}, not within 0 to {last}"
    present = set(np.unique(labels["train"]).tolist())
    absent = [name for label, name in enumerate(class_names) if label not in present]
    return (
        f"train holds no image of class {', '.join(absent)}, so there is nothing to tell apart"
        if absent
        else None
    )


def _status(path: Path, data: Data, facts: Facts, counts: dict[str, int], digests: dict[str, str]) -> Status:
    if data.own:
        if digests["sha256"] != data.own.sha256:
            raise ArchiveError(
                f"{path}: its sha256 is {digests['sha256']} and not data.own.sha256 = {data.own.sha256}; "
                "put the right file there, or, if this is the one you mean, write its sha256 into the profile."
            )
        return "own"
    if data.source == "phantom":
        if not is_rendered_from(data, path):
            raise ArchiveError(f"{path}: it was not rendered from the profile's data section; {_hint(data)}.")
        if counts != facts.counts:
            raise ArchiveError(
                f"{path}: it holds {_listed(counts)} phantoms instead of {_listed(facts.counts)}; {_hint(data)}."
            )
        return "phantom"
    if digests["md5"] == facts.md5:
        return "official"
    if counts != facts.counts:
        raise ArchiveError(
            f"{path}: its MD5 is not the official one and it holds {_listed(counts)} images, while MedMNIST's "
            f"{data.dataset} has {_listed(facts.counts)}; {_hint(data)}."
        )
    return "unverified"


def _hint(data: Data) -> str:
    return {
        "file": f"put an intact {data.file_name}{'' if data.own else ' of MedMNIST'} there",
        "download": "delete the file, and the next run downloads it again",
        "phantom": "delete the file, and the next run renders it again",
    }[data.source]


def _listed(counts: dict[str, int]) -> str:
    return " + ".join(f"{counts[split]} {split}" for split in SPLITS)
