"""`raw_npz`: archives good and bad, and the three ways to have one."""

import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import medmnist
import numpy as np
import pytest
import torch

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline.stages.data.medmnist_info import dataset_info
from vdm_pipeline.stages.data.npz import read_comment, write_npz
from vdm_pipeline_tests.paths import ROOT

NAMES = ("normal", "pneumonia")
COUNTS = {"train": 6, "val": 3, "test": 4}
FILE = Data(dataset="tinymnist", size=28, source="file")
DOWNLOAD = Data(dataset="tinymnist", size=28, source="download")
PHANTOM = Data(dataset="phantom", size=32, source="phantom", train=6, val=2, test=2)
REAL = Path(os.environ.get("VDM_REAL_DATA") or ROOT / "../shared/data/pneumoniamnist.npz")


def silent(line: str) -> None:
    """Drop a line of progress."""


def arrays(channels: int = 1, side: int = 28, n_classes: int = 2) -> dict[str, np.ndarray]:
    """A good archive's arrays: noise for images, labels in turn."""
    rng = np.random.default_rng(0)
    shape = (side, side) if channels == 1 else (side, side, channels)
    made = {}
    for split, count in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        made[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % n_classes)[:, None]
    return made


def saved(**options) -> bytes:
    """The bytes of a `.npz` as NumPy writes it."""
    file = io.BytesIO()
    np.savez_compressed(file, **options)
    return file.getvalue()


BODY = saved(**arrays())
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> dict:
    """A small data set in MedMNIST's table; `BODY` is its official archive."""
    info = {
        "url": "http://127.0.0.1:9/none",
        "MD5": MD5,
        "task": "binary-class",
        "label": {"0": "normal", "1": "pneumonia"},
        "n_channels": 1,
        "n_samples": dict(COUNTS),
        "license": "CC0",
    }
    monkeypatch.setitem(medmnist.INFO, "tinymnist", info)
    return info


def put(folder: Path, body: bytes, data: Data = FILE) -> Path:
    """Put an archive where the pipeline looks for it."""
    path = folder / data.file_name
    path.write_bytes(body)
    return path


# --- reading ---------------------------------------------------------------------------------------------------------


def test_an_official_archive(tmp_path):
    path = put(tmp_path, BODY)
    found = read_archive(path, FILE, NAMES)
    assert (found.dataset, found.size, found.status, found.path, found.n) == (
        "tinymnist",
        28,
        "official",
        path,
        13,
    )
    assert (found.md5, found.sha256) == (MD5, hashlib.sha256(BODY).hexdigest())
    for split, count in COUNTS.items():
        np.testing.assert_array_equal(found.splits[split].images, arrays()[f"{split}_images"])
        assert found.splits[split].labels.dtype == np.int64
        assert found.splits[split].labels.shape == (count,)
    assert found.image_ids("val") == ["tinymnist_val_000000", "tinymnist_val_000001", "tinymnist_val_000002"]
    assert found.class_counts(3) == {"train": [3, 3, 0], "val": [2, 1, 0], "test": [2, 2, 0]}


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: labels[:, 0],
        lambda labels: labels.astype(">i8"),
        lambda labels: labels.astype(np.int16),
    ],
)
def test_an_archive_that_fits_but_is_not_the_official_one(tmp_path, change):
    made = {key: change(array) if "labels" in key else array for key, array in arrays().items()}
    found = read_archive(put(tmp_path, saved(**made)), FILE, NAMES)
    assert found.status == "unverified"
    assert found.splits["train"].labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_colour_and_more_classes(tmp_path, tiny):
    tiny |= {"n_channels": 3, "task": "ordinal-regression", "label": {"0": "a", "1": "b", "2": "c"}}
    found = read_archive(put(tmp_path, saved(**arrays(channels=3, n_classes=3))), FILE, ("a", "b", "c"))
    image, label = found.dataset_for("test")[2]
    assert image.shape == (3, 28, 28)
    assert label == 2
    np.testing.assert_allclose(image[1].numpy() * 255, found.splits["test"].images[2, :, :, 1], rtol=1e-6)


def bomb(claim: str = "(60000, 28, 28)") -> bytes:
    """A small file one of whose headers claims much."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {claim}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def replaced(member: bytes) -> bytes:
    """`BODY` with another ``train_images.npy``."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(BODY)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, member if info.filename == "train_images.npy" else old.read(info))
    return file.getvalue()


def declared(size: int) -> bytes:
    """A header that claims ``size`` bytes, in a zip that declares as much without holding it."""
    data, header = bytearray(replaced(bomb(f"({size // 784}, 28, 28)"))), bomb()
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(b"train_images.npy", data.find(signature)) - (30 if signature == b"PK\x03\x04" else 46)
        struct.pack_into("<I", data, at + offset, size // 784 * 784 + len(header))
    return bytes(data)


def swapped(**changes) -> bytes:
    """The good arrays, some of them others."""
    return saved(**(arrays() | changes))


def renamed() -> bytes:
    """The good arrays, with one key spelt otherwise."""
    made = arrays()
    made["training_images"] = made.pop("train_images")
    return saved(**made)


GOOD = arrays()
BAD = {
    "truncated": (lambda: BODY[:-200], "is cut short"),
    "damaged": (lambda: BODY[:200] + bytes(50) + BODY[250:], "is damaged"),
    "no bytes": (lambda: b"", "is an empty file"),
    "not a zip": (lambda: b"<html>404</html>", r"is no \.npz file"),
    "renamed": (renamed, "the array 'train_images' is missing"),
    "extra": (lambda: swapped(more=np.zeros(1)), "holds 'more', which does not belong"),
    "pickled": (
        lambda: swapped(val_images=np.array([{}, 1, 2], object)),
        "val_images holds pickled Python objects",
    ),
    "float": (lambda: swapped(val_images=GOOD["val_images"] / 255), "val_images is float64, not uint8"),
    "float labels": (
        lambda: swapped(val_labels=GOOD["val_labels"] / 1),
        "val_labels is float64, not an integer",
    ),
    "not square": (
        lambda: swapped(test_images=GOOD["test_images"][:, :20]),
        r"test_images has shape \[4, 20, 28\], not \[n, 28, 28\]",
    ),
    "other size": (lambda: saved(**arrays(side=64)), r"train_images has shape \[6, 64, 64\]"),
    "colour": (
        lambda: saved(**arrays(channels=3)),
        r"train_images has shape \[6, 28, 28, 3\], not \[n, 28, 28\]",
    ),
    "scalar": (lambda: swapped(train_images=np.uint8(1)), r"train_images has shape \[\]"),
    "wide labels": (
        lambda: swapped(test_labels=np.zeros((4, 2), int)),
        r"test_labels has shape \[4, 2\] for 4 images",
    ),
    "label missing": (
        lambda: swapped(test_labels=GOOD["test_labels"][1:]),
        r"test_labels has shape \[3, 1\] for 4 images",
    ),
    "one class": (
        lambda: swapped(train_labels=GOOD["train_labels"] * 0),
        "train holds no image of class pneumonia",
    ),
    "empty split": (
        lambda: swapped(val_images=GOOD["val_images"][:0], val_labels=GOOD["val_labels"][:0]),
        "the split val is empty",
    ),
    "label too high": (
        lambda: swapped(val_labels=GOOD["val_labels"] + 1),
        "val_labels runs from 1 to 2, not within 0 to 1",
    ),
    "label below 0": (
        lambda: swapped(val_labels=GOOD["val_labels"].astype(int) - 1),
        "val_labels runs from -1 to 0",
    ),
    "label wraps": (
        lambda: swapped(val_labels=GOOD["val_labels"] + np.uint64(2**64 - 1)),
        "not within 0 to 1",
    ),
    "header bomb": (lambda: replaced(bomb()), r"train_images claims \[60000, 28, 28\]"),
    "declared bomb": (lambda: declared(2**31), "train_images.npy declares 2147483.* a zip bomb"),
    "counts": (
        lambda: swapped(val_images=GOOD["val_images"][:2], val_labels=GOOD["val_labels"][:2]),
        "holds 6 train . 2 val . 4 test images",
    ),
}


@pytest.mark.parametrize("body, fault", BAD.values(), ids=BAD)
def test_a_bad_archive_is_one_sentence_and_nothing_is_written(
    tmp_path, body: Callable[[], bytes], fault: str
):
    path = put(tmp_path, body())
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=fault) as caught:
        read_archive(obtain_archive(FILE, tmp_path, silent), FILE, NAMES).verify()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; put an intact tinymnist.npz of MedMNIST there.")
    assert "\n" not in message and ". " not in message.removeprefix(str(path))
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


def test_the_mend_is_that_of_the_source(tmp_path):
    with pytest.raises(ArchiveError, match=r"delete the file, and the next run downloads it again\.$"):
        read_archive(put(tmp_path, b"x"), DOWNLOAD, NAMES)
    with pytest.raises(ArchiveError, match=r"delete the file, and the next run renders it again\.$"):
        read_archive(put(tmp_path, b"x"), PHANTOM, NAMES)


# --- what MedMNIST says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dataset, size, fault",
    [
        (
            "nosuchmnist",
            28,
            r"data\.dataset = 'nosuchmnist' is no MedMNIST data set; set one of bloodmnist, ",
        ),
        (
            "chestmnist",
            28,
            "of the task multi-label, binary-class, and the pipeline works on 2-D images with one label each; set one of",
        ),
        ("organmnist3d", 28, "'organmnist3d' is three-dimensional"),
        ("pneumoniamnist", 32, r"data\.size = 32 is not a size .*; set 28, 64, 128 or 224\.$"),
        (
            "pathmnist",
            224,
            r"data\.size = 224 makes pathmnist 15\.0 GiB in memory, .*; set a smaller data\.size\.$",
        ),
    ],
)
@pytest.mark.parametrize("source", ["file", "download"])
def test_what_the_pipeline_cannot_work_with_is_refused_at_once(tmp_path, dataset, size, fault, source):
    data = Data(dataset=dataset, size=size, source=source)
    for refused in (
        lambda: obtain_archive(data, tmp_path, silent),
        lambda: read_archive(tmp_path / "x.npz", data, NAMES),
    ):
        with pytest.raises(ArchiveError, match=fault):
            refused()
    assert not any(tmp_path.iterdir())


def test_every_size_has_its_own_md5_and_url():
    facts = dataset_info(Data(dataset="pneumoniamnist", size=128, source="file"))
    assert facts.md5 == "05b46931834c231683c68f40c47b2971"
    assert "pneumoniamnist_128.npz" in facts.url
    assert facts.counts == {"train": 4708, "val": 524, "test": 624}


def test_one_name_a_class(tmp_path):
    with pytest.raises(
        ArchiveError,
        match=r"classes\.names has 3 names, but tinymnist has 2 classes \(normal, pneumonia\); give one",
    ):
        read_archive(put(tmp_path, BODY), FILE, ("a", "b", "c"))


# --- for torch -------------------------------------------------------------------------------------------------------


def test_a_split_as_torch_dataset(tmp_path):
    found = read_archive(put(tmp_path, BODY), FILE, NAMES)
    dataset = found.dataset_for("train")
    assert isinstance(dataset, torch.utils.data.Dataset)
    assert len(dataset) == 6
    image, label = dataset[1]
    assert (image.shape, image.dtype, label, type(label)) == ((1, 28, 28), torch.float32, 1, int)
    np.testing.assert_allclose(image[0].numpy() * 255, found.splits["train"].images[1], rtol=1e-6)
    assert found.dataset_for("train", transform=lambda one: one.mean().item())[0][0] == pytest.approx(
        float(dataset[0][0].mean())
    )
    assert len(list(dataset)) == 6


def test_a_split_as_torch_loader(tmp_path):
    found = read_archive(put(tmp_path, BODY), FILE, NAMES)
    batches = list(found.loader("train", batch_size=4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 1, 28, 28), (2, 1, 28, 28)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 0, 1, 0, 1]
    orders = [
        torch.cat([images for images, _ in found.loader("train", 4, shuffle=True, seed=seed)])
        for seed in (0, 0, 1)
    ]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


# --- source = "file" and "phantom" -----------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_three_ways_out(tmp_path):
    with pytest.raises(ArchiveError) as caught:
        obtain_archive(FILE, tmp_path, silent)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'tinymnist.npz'} is missing; put the archive there")
    assert 'source = "download"' in message and "demo" in message


def test_phantoms_are_rendered_once_and_anew_for_other_settings(tmp_path):
    lines: list[str] = []
    path = obtain_archive(PHANTOM, tmp_path, lines.append)
    first = read_archive(path, PHANTOM, NAMES)
    assert (first.status, first.dataset, first.n, path.name) == ("phantom", "phantom", 10, "phantom_32.npz")
    assert first.image_ids("train")[5] == "phantom_train_000005"
    assert lines

    lines.clear()
    assert obtain_archive(PHANTOM, tmp_path, lines.append) == path
    assert not lines

    other = PHANTOM.model_copy(update={"seed": 1})
    with pytest.raises(
        ArchiveError, match="was not rendered from the profile's data section; delete the file"
    ):
        read_archive(path, other, NAMES)
    assert read_archive(obtain_archive(other, tmp_path, silent), other, NAMES).sha256 != first.sha256
    assert read_archive(obtain_archive(PHANTOM, tmp_path, silent), PHANTOM, NAMES).sha256 == first.sha256


def test_a_phantom_archive_must_hold_as_many_as_were_asked_for(tmp_path):
    path = obtain_archive(PHANTOM, tmp_path, silent)
    kept = dict(np.load(path)) | {
        "train_images": np.zeros((4, 32, 32), np.uint8),
        "train_labels": np.array([[0], [1], [0], [1]], np.uint8),
    }
    write_npz(path, kept, comment=read_comment(path))
    with pytest.raises(
        ArchiveError,
        match=r"holds 4 train \+ 2 val \+ 2 test phantoms instead of 6 train .*; delete the file",
    ):
        read_archive(path, PHANTOM, NAMES)


def test_a_damaged_phantom_is_rendered_again(tmp_path):
    path = obtain_archive(PHANTOM, tmp_path, silent)
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    assert obtain_archive(PHANTOM, tmp_path, silent).read_bytes() == whole


# --- source = "download" ---------------------------------------------------------------------------------------------


def test_a_download_is_checked_and_done_once(tmp_path, tiny):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "tinymnist.npz").write_bytes(BODY)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        tiny["url"] = f"http://127.0.0.1:{server.server_port}/tinymnist.npz"
        path = obtain_archive(DOWNLOAD, tmp_path / "data", silent)
        server.shutdown()
    assert path.read_bytes() == BODY
    assert read_archive(path, DOWNLOAD, NAMES).status == "official"
    assert obtain_archive(DOWNLOAD, tmp_path / "data", silent) == path


def test_a_file_of_another_md5_is_not_overwritten(tmp_path):
    path = put(tmp_path, b"mine")
    with pytest.raises(
        ArchiveError,
        match=r"stands in the way of the download and has not the official MD5 .*; move it away, or",
    ):
        obtain_archive(DOWNLOAD, tmp_path, silent)
    assert path.read_bytes() == b"mine"


# --- the real archive ------------------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.skipif(
    not REAL.is_file(),
    reason=f"no real archive at {REAL}; set VDM_REAL_DATA to a pneumoniamnist.npz of 28 pixels",
)
def test_the_real_archive():
    found = read_archive(REAL, Data(dataset="pneumoniamnist", size=28, source="file"), NAMES)
    assert found.n == 5856
    assert found.status in ("official", "unverified")
    assert found.class_counts(2) == {"train": [1214, 3494], "val": [135, 389], "test": [234, 390]}
    assert found.image_ids("test")[-1] == "pneumoniamnist_test_000623"
    assert 100 < found.splits["train"].images.mean() < 180


def own(path: Path, channels: int = 1) -> Data:
    described = {
        "channels": channels,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "CC0",
    }
    return Data.model_validate({"dataset": "mine", "size": 28, "source": "file", "own": described})


def test_an_archive_of_ones_own_is_known_by_its_sha256(tmp_path):
    path = tmp_path / "mine.npz"
    write_npz(path, arrays(channels=3, n_classes=3))
    data = own(path, channels=3)
    archive = read_archive(obtain_archive(data, tmp_path, silent), data, ("a", "b", "c"))
    assert (archive.status, archive.n, archive.dataset) == ("own", 13, "mine")
    assert archive.splits["val"].images.shape == (3, 28, 28, 3)
    write_npz(path, arrays(channels=3, n_classes=2))
    with pytest.raises(
        ArchiveError, match=r"train holds no image of class c, so .*; put an intact mine.npz there"
    ):
        read_archive(path, data, ("a", "b", "c"))
    write_npz(path, {**arrays(channels=3, n_classes=3), "val_labels": np.zeros((3, 1), np.uint8)})
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(
        ArchiveError,
        match=rf"its sha256 is {found} and not data.own.sha256 = {data.own.sha256}; put the right file",
    ):
        read_archive(path, data, ("a", "b", "c"))
