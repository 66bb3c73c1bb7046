"""Read archives: images, labels and status, and as torch datasets."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vdm_pipeline.errors import ArchiveError, PipelineError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline.stages.data.medmnist_info import dataset_info
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline_tests.real_data import REAL_ARCHIVE, needs_real_archive
from vdm_pipeline_tests.stages.data.archives import (
    BODY,
    COUNTS,
    FILE,
    MD5,
    NAMES,
    arrays,
    ignore_log,
    npz_bytes,
    put,
)

pytestmark = pytest.mark.usefixtures("tinymnist")


def test_official_archive(tmp_path):
    path = put(tmp_path, BODY)
    archive = read_archive(path, FILE, NAMES)
    assert (archive.dataset, archive.size, archive.status) == ("tinymnist", 28, "official")
    assert (archive.path, archive.n) == (path, 13)
    assert (archive.md5, archive.sha256) == (MD5, hashlib.sha256(BODY).hexdigest())
    for split, count in COUNTS.items():
        np.testing.assert_array_equal(archive.splits[split].images, arrays()[f"{split}_images"])
        assert archive.splits[split].labels.dtype == np.int64
        assert archive.splits[split].labels.shape == (count,)
    assert archive.image_ids("val") == [f"tinymnist_val_{index:06d}" for index in range(3)]
    assert archive.class_counts(3) == {"train": [3, 3, 0], "val": [2, 1, 0], "test": [2, 2, 0]}


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: labels[:, 0],
        lambda labels: labels.astype(">i8"),
        lambda labels: labels.astype(np.int16),
        lambda labels: labels.astype(np.int8),
        lambda labels: labels.astype(np.uint64),
    ],
)
def test_valid_archive_without_the_official_md5_is_unverified(tmp_path, change):
    changed = {key: change(array) if "labels" in key else array for key, array in arrays().items()}
    archive = read_archive(put(tmp_path, npz_bytes(**changed)), FILE, NAMES)
    assert archive.status == "unverified"
    assert archive.splits["train"].labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_colour_and_more_classes(tmp_path, tinymnist):
    tinymnist |= {"n_channels": 3, "task": "ordinal-regression", "label": {"0": "a", "1": "b", "2": "c"}}
    path = put(tmp_path, npz_bytes(**arrays(channels=3, n_classes=3)))
    archive = read_archive(path, FILE, ("a", "b", "c"))
    image, label = archive.torch_dataset("test")[2]
    assert image.shape == (3, 28, 28)
    assert label == 2
    np.testing.assert_allclose(image[1].numpy() * 255, archive.splits["test"].images[2, :, :, 1], rtol=1e-6)


def test_a_single_channel_may_be_an_axis(tmp_path):
    changed = {key: array[..., None] if "images" in key else array for key, array in arrays().items()}
    archive = read_archive(put(tmp_path, npz_bytes(**changed)), FILE, NAMES)
    for name, split in archive.splits.items():
        np.testing.assert_array_equal(split.images, arrays()[f"{name}_images"])
    np.testing.assert_array_equal(archive.splits["train"].take([3]), arrays()["train_images"][[3]])


def test_images_by_row_and_by_id_come_in_the_requested_order(tmp_path):
    archive = read_archive(put(tmp_path, BODY), FILE, NAMES)
    train, rows = archive.splits["train"], [4, 0, 4, 5]
    np.testing.assert_array_equal(train.take(rows), train.images[rows])
    assert len(train.take([])) == 0
    ids = [archive.image_ids("train")[row] for row in rows]
    np.testing.assert_array_equal(archive.images_by_id("train", ids), train.images[rows])
    with pytest.raises(PipelineError, match="'tinymnist_val_000000' is not a train image"):
        archive.images_by_id("train", ["tinymnist_val_000000"])


def test_every_size_has_its_own_md5_and_url():
    info = dataset_info(Data(dataset="pneumoniamnist", size=128, source="file"))
    assert info.md5 == "05b46931834c231683c68f40c47b2971"
    assert "pneumoniamnist_128.npz" in info.url
    assert info.counts == {"train": 4708, "val": 524, "test": 624}


def test_torch_dataset(tmp_path):
    archive = read_archive(put(tmp_path, BODY), FILE, NAMES)
    dataset = archive.torch_dataset("train")
    assert isinstance(dataset, torch.utils.data.Dataset)
    assert len(dataset) == len(list(dataset)) == 6
    image, label = dataset[1]
    assert (image.shape, image.dtype, label, type(label)) == ((1, 28, 28), torch.float32, 1, int)
    np.testing.assert_allclose(image[0].numpy() * 255, archive.splits["train"].images[1], rtol=1e-6)
    means = archive.torch_dataset("train", transform=lambda image: image.mean().item())
    assert means[0][0] == pytest.approx(float(dataset[0][0].mean()))


def test_torch_data_loader(tmp_path):
    archive = read_archive(put(tmp_path, BODY), FILE, NAMES)
    batches = list(archive.torch_loader("train", batch_size=4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 1, 28, 28), (2, 1, 28, 28)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 0, 1, 0, 1]
    first, same_seed, other_seed = (
        torch.cat([images for images, _ in archive.torch_loader("train", 4, shuffle=True, seed=seed)])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same_seed)
    assert not torch.equal(first, other_seed)


def own_archive(path: Path, channels: int) -> Data:
    """Settings of an archive that MedMNIST does not list."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    own = {"channels": channels, "sha256": sha256, "licence": "CC0"}
    return Data.model_validate({"dataset": "mine", "size": 28, "source": "file", "own": own})


def test_own_archive_is_identified_by_its_sha256(tmp_path):
    path, names = tmp_path / "mine.npz", ("a", "b", "c")
    write_npz(path, arrays(channels=3, n_classes=3))
    data = own_archive(path, channels=3)
    archive = read_archive(obtain_archive(data, tmp_path, ignore_log), data, names)
    assert (archive.status, archive.n, archive.dataset) == ("own", 13, "mine")
    assert archive.splits["val"].images.shape == (3, 28, 28, 3)
    write_npz(path, arrays(channels=3, n_classes=2))
    with pytest.raises(
        ArchiveError, match=r"train has no image of class c; add some, or correct classes\.names\.$"
    ):
        read_archive(path, data, names)
    write_npz(path, arrays(channels=3, n_classes=3, val_labels=np.zeros((3, 1), np.uint8)))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ArchiveError, match=rf"{sha256}, not data\.own\.sha256 = {data.own.sha256}"):
        read_archive(path, data, names)


@pytest.mark.real_data
@needs_real_archive
def test_real_archive():
    archive = read_archive(REAL_ARCHIVE, Data(dataset="pneumoniamnist", size=28, source="file"), NAMES)
    assert archive.n == 5856
    assert archive.status in ("official", "unverified")
    assert archive.class_counts(2) == {"train": [1214, 3494], "val": [135, 389], "test": [234, 390]}
    assert archive.image_ids("test")[-1] == "pneumoniamnist_test_000623"
    assert 100 < archive.splits["train"].images.mean() < 180
