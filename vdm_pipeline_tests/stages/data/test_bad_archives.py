"""Bad archives and unsupported data sets: one sentence each, and no file is written."""

import io
import os
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.archive import obtain_archive, read_archive
from vdm_pipeline_tests.stages.data.archives import (
    BODY,
    DOWNLOAD,
    FILE,
    GOOD,
    NAMES,
    PHANTOM,
    arrays,
    ignore_log,
    npz_bytes,
    put,
)

pytestmark = pytest.mark.usefixtures("tinymnist")


def npy_header(shape: str) -> bytes:
    """A `.npy` header that declares uint8 of that shape, without data."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def with_train_images(member: bytes) -> bytes:
    """`BODY` with another ``train_images.npy``."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(BODY)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, member if info.filename == "train_images.npy" else old.read(info))
    return file.getvalue()


def declaring(size: int) -> bytes:
    """``train_images.npy`` declares ``size`` bytes in its header and in the zip, but has none."""
    header = npy_header(f"({size // 784}, 28, 28)")
    data = bytearray(with_train_images(header))
    declared = size // 784 * 784 + len(header)
    for signature, offset, name_offset in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        start = data.find(b"train_images.npy", data.find(signature)) - name_offset
        struct.pack_into("<I", data, start + offset, declared)
    return bytes(data)


def changed(**changes: np.ndarray) -> Callable[[], bytes]:
    """The good archive with some arrays replaced."""
    return lambda: npz_bytes(**arrays(**changes))


def renamed() -> bytes:
    """The good archive with one array under another name."""
    content = arrays()
    content["training_images"] = content.pop("train_images")
    return npz_bytes(**content)


VAL_IMAGES, VAL_LABELS = GOOD["val_images"], GOOD["val_labels"]
TEST_IMAGES, TEST_LABELS = GOOD["test_images"], GOOD["test_labels"]
BAD = {
    "truncated": (lambda: BODY[:-200], "is cut short, or still being copied"),
    "damaged": (lambda: BODY[:200] + bytes(50) + BODY[250:], "is damaged"),
    "no bytes": (lambda: b"", "is an empty file"),
    "not a zip": (lambda: b"<html>404</html>", r"is not an \.npz file"),
    "renamed": (renamed, "'train_images' is missing"),
    "extra": (changed(more=np.zeros(1)), "unexpected array 'more'"),
    "pickled": (changed(val_images=np.array([{}, 1, 2], object)), "val_images .*pickled Python objects"),
    "float": (changed(val_images=VAL_IMAGES / 255), "val_images is float64, not uint8"),
    "float labels": (changed(val_labels=VAL_LABELS / 1), "val_labels is float64, not an integer"),
    "not square": (
        changed(test_images=TEST_IMAGES[:, :20]),
        r"test_images has shape \[4, 20, 28\], not \[n, 28",
    ),
    "other size": (lambda: npz_bytes(**arrays(side=64)), r"train_images has shape \[6, 64, 64\]"),
    "colour": (
        lambda: npz_bytes(**arrays(channels=3)),
        r"train_images has shape \[6, 28, 28, 3\], not \[n, 28, 28\]",
    ),
    "scalar": (changed(train_images=np.uint8(1)), r"train_images has shape \[\]"),
    "wide labels": (
        changed(test_labels=np.zeros((4, 2), int)),
        r"test_labels has shape \[4, 2\] for 4 images",
    ),
    "label missing": (changed(test_labels=TEST_LABELS[1:]), r"test_labels has shape \[3, 1\] for 4 images"),
    "one class": (changed(train_labels=GOOD["train_labels"] * 0), "train has no image of class pneumonia"),
    "empty split": (changed(val_images=VAL_IMAGES[:0], val_labels=VAL_LABELS[:0]), "split val is empty"),
    "label too high": (changed(val_labels=VAL_LABELS + 1), "val_labels .* 1 to 2, not within 0 to 1"),
    "label below 0": (changed(val_labels=VAL_LABELS.astype(int) - 1), "val_labels .* -1 to 0"),
    "label wraps": (changed(val_labels=VAL_LABELS + np.uint64(2**64 - 1)), "val_labels .* not within 0 to 1"),
    "header bomb": (
        lambda: with_train_images(npy_header("(60000, 28, 28)")),
        r"train_images declares \[60000, 28, 28\]",
    ),
    "declared bomb": (lambda: declaring(2**31), "train_images.npy declares 2147483.* zip bomb"),
    "counts": (
        changed(val_images=VAL_IMAGES[:2], val_labels=VAL_LABELS[:2]),
        "has 6 train . 2 val . 4 test images",
    ),
}


@pytest.mark.parametrize(("body", "problem"), BAD.values(), ids=BAD)
def test_bad_archive_is_one_sentence(tmp_path, body: Callable[[], bytes], problem: str):
    path = put(tmp_path, body())
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=problem) as caught:
        read_archive(obtain_archive(FILE, tmp_path, ignore_log), FILE, NAMES).verify()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; put an intact tinymnist.npz of MedMNIST there.")
    assert "\n" not in message and ". " not in message.removeprefix(str(path))
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize(("data", "fix"), [(DOWNLOAD, "downloads it again"), (PHANTOM, "renders it again")])
def test_hint_depends_on_the_source(tmp_path, data, fix):
    with pytest.raises(ArchiveError, match=f"delete the file, and the next run {fix}"):
        read_archive(put(tmp_path, b"x", data), data, NAMES)


@pytest.mark.parametrize(
    ("dataset", "size", "problem"),
    [
        ("nosuchmnist", 28, r"data\.dataset = 'nosuchmnist' .*; set one of bloodmnist, "),
        ("chestmnist", 28, "of task multi-label, binary-class, .*; set one of bloodmnist, "),
        ("organmnist3d", 28, "'organmnist3d' is three-dimensional"),
        ("pneumoniamnist", 32, r"data\.size = 32 .*; set 28, 64, 128 or 224\.$"),
        ("pathmnist", 224, r"data\.size = 224: .*pathmnist need 15\.0 GiB .*; set a smaller data\.size\.$"),
    ],
)
@pytest.mark.parametrize("source", ["file", "download"])
def test_unsupported_data_sets(tmp_path, dataset, size, problem, source):
    data = Data(dataset=dataset, size=size, source=source)
    with pytest.raises(ArchiveError, match=problem):
        obtain_archive(data, tmp_path, ignore_log)
    with pytest.raises(ArchiveError, match=problem):
        read_archive(tmp_path / "x.npz", data, NAMES)
    assert not any(tmp_path.iterdir())


def test_class_names_must_match_the_classes(tmp_path):
    with pytest.raises(ArchiveError, match=r"classes\.names .*tinymnist has 2 classes \(normal, pneumonia\)"):
        read_archive(put(tmp_path, BODY), FILE, ("a", "b", "c"))
