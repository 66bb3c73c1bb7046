"""`raw_npz`: archives good and bad, and the three ways to have one."""

import hashlib
import io
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import medmnist
import numpy as np
import pytest
import torch

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.io import npz
from vdm_pipeline.settings import Data
from vdm_pipeline.stages import archive as archive_module
from vdm_pipeline.stages.archive import obtain_archive, read_archive

NAMES = ("normal", "pneumonia")
COUNTS = {"train": 6, "val": 3, "test": 4}
FILE = Data(dataset="tinymnist", size=28, source="file")
DOWNLOAD = Data(dataset="tinymnist", size=28, source="download")
PHANTOM = Data(dataset="phantom", size=32, source="phantom", train=6, val=2, test=2)
REAL = Path(os.environ.get("VDM_REAL_DATA") or Path(__file__).parents[2] / "../shared/data/pneumoniamnist.npz")


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
    assert (found.dataset, found.size, found.status, found.path, found.n) == ("tinymnist", 28, "official", path, 13)
    assert (found.md5, found.sha256) == (MD5, hashlib.sha256(BODY).hexdigest())
    for split, count in COUNTS.items():
        np.testing.assert_array_equal(found.splits[split].images, arrays()[f"{split}_images"])
        assert found.splits[split].labels.dtype == np.int64
        assert found.splits[split].labels.shape == (count,)
    assert found.image_ids("val") == ["tinymnist_val_000000", "tinymnist_val_000001", "tinymnist_val_000002"]
    assert found.class_counts(3) == {"train": [3, 3, 0], "val": [2, 1, 0], "test": [2, 2, 0]}


@pytest.mark.parametrize(
    "change", [lambda labels: labels[:, 0], lambda labels: labels.astype(">i8"), lambda labels: labels.astype(np.int16)]
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
    "pickled": (lambda: swapped(val_images=np.array([{}, 1, 2], object)), "val_images holds pickled Python objects"),
    "float": (lambda: swapped(val_images=GOOD["val_images"] / 255), "val_images is float64, not uint8"),
    "float labels": (lambda: swapped(val_labels=GOOD["val_labels"] / 1), "val_labels is float64, not an integer"),
    "not square": (lambda: swapped(test_images=GOOD["test_images"][:, :20]), r"test_images has shape \[4, 20, 28\], not \[n, 28, 28\]"),
    "other size": (lambda: saved(**arrays(side=64)), r"train_images has shape \[6, 64, 64\]"),
    "colour": (lambda: saved(**arrays(channels=3)), r"train_images has shape \[6, 28, 28, 3\], not \[n, 28, 28\]"),
    "scalar": (lambda: swapped(train_images=np.uint8(1)), r"train_images has shape \[\]"),
    "wide labels": (lambda: swapped(test_labels=np.zeros((4, 2), int)), r"test_labels has shape \[4, 2\] for 4 images"),
    "label missing": (lambda: swapped(test_labels=GOOD["test_labels"][1:]), r"test_labels has shape \[3, 1\] for 4 images"),
    "one class": (lambda: swapped(train_labels=GOOD["train_labels"] * 0), "train holds no image of class pneumonia"),
    "empty split": (lambda: swapped(val_images=GOOD["val_images"][:0], val_labels=GOOD["val_labels"][:0]), "the split val is empty"),
    "label too high": (lambda: swapped(val_labels=GOOD["val_labels"] + 1), "val_labels runs from 1 to 2, not within 0 to 1"),
    "label below 0": (lambda: swapped(val_labels=GOOD["val_labels"].astype(int) - 1), "val_labels runs from -1 to 0"),
    "label wraps": (lambda: swapped(val_labels=GOOD["val_labels"] + np.uint64(2**64 - 1)), "not within 0 to 1"),
    "header bomb": (lambda: replaced(bomb()), r"train_images claims \[60000, 28, 28\]"),
    "declared bomb": (lambda: declared(2**31), "train_images.npy declares 2147483.* a zip bomb"),
    "counts": (
        lambda: swapped(val_images=GOOD["val_images"][:2], val_labels=GOOD["val_labels"][:2]),
        "holds 6 train . 2 val . 4 test images",
    ),
}


@pytest.mark.parametrize("body, fault", BAD.values(), ids=BAD)
def test_a_bad_archive_is_one_sentence_and_nothing_is_written(tmp_path, body: Callable[[], bytes], fault: str):
    path = put(tmp_path, body())
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=fault) as caught:
        read_archive(obtain_archive(FILE, tmp_path, silent), FILE, NAMES)
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
        ("nosuchmnist", 28, r"data\.dataset = 'nosuchmnist' is no MedMNIST data set; set one of bloodmnist, "),
        ("../tinymnist", 28, "is no MedMNIST data set"),
        ("chestmnist", 28, "of the task multi-label, binary-class, and the pipeline works on 2-D images with one label each; set one of"),
        ("organmnist3d", 28, "'organmnist3d' is three-dimensional"),
        ("pneumoniamnist", 32, r"data\.size = 32 is not a size .*; set 28, 64, 128 or 224\.$"),
        ("pathmnist", 224, r"data\.size = 224 makes pathmnist 15\.0 GiB in memory, .*; set a smaller data\.size\.$"),
    ],
)
@pytest.mark.parametrize("source", ["file", "download"])
def test_what_the_pipeline_cannot_work_with_is_refused_at_once(tmp_path, dataset, size, fault, source):
    data = Data(dataset=dataset, size=size, source=source)
    for refused in (lambda: obtain_archive(data, tmp_path, silent), lambda: read_archive(tmp_path / "x.npz", data, NAMES)):
        with pytest.raises(ArchiveError, match=fault):
            refused()
    assert not any(tmp_path.iterdir())


def test_every_size_has_its_own_md5_and_url():
    facts = archive_module._facts(Data(dataset="pneumoniamnist", size=128, source="file"))
    assert facts.md5 == "05b46931834c231683c68f40c47b2971"
    assert "pneumoniamnist_128.npz" in facts.url
    assert facts.counts == {"train": 4708, "val": 524, "test": 624}


def test_one_name_a_class(tmp_path):
    with pytest.raises(ArchiveError, match=r"classes\.names has 3 names, but tinymnist has 2 classes \(normal, pneumonia\); give one"):
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
    assert found.dataset_for("train", transform=lambda one: one.mean().item())[0][0] == pytest.approx(float(dataset[0][0].mean()))
    assert len(list(dataset)) == 6


def test_a_split_as_torch_loader(tmp_path):
    found = read_archive(put(tmp_path, BODY), FILE, NAMES)
    batches = list(found.loader("train", batch_size=4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 1, 28, 28), (2, 1, 28, 28)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 0, 1, 0, 1]
    orders = [torch.cat([images for images, _ in found.loader("train", 4, shuffle=True, seed=seed)]) for seed in (0, 0, 1)]
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
    with pytest.raises(ArchiveError, match="was not rendered from the profile's data section; delete the file"):
        read_archive(path, other, NAMES)
    assert read_archive(obtain_archive(other, tmp_path, silent), other, NAMES).sha256 != first.sha256
    assert read_archive(obtain_archive(PHANTOM, tmp_path, silent), PHANTOM, NAMES).sha256 == first.sha256


def test_a_damaged_phantom_is_rendered_again(tmp_path):
    path = obtain_archive(PHANTOM, tmp_path, silent)
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    assert obtain_archive(PHANTOM, tmp_path, silent).read_bytes() == whole


# --- source = "download" ---------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Serves `server.body`; `server.drops` lists after how many bytes to hang up, one entry a request."""

    def do_GET(self) -> None:
        """Answer with all, a range, 416, or whatever `server.answer` is."""
        server, wish = self.server, self.headers.get("Range")
        server.ranges.append(wish)
        start = int(re.match(r"bytes=(\d+)-", wish)[1]) if wish and server.with_ranges else 0
        if server.answer:
            self.send_response(server.answer)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if wish and server.with_ranges and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.end_headers()
            return
        partial = wish is not None and server.with_ranges
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{len(server.body) - 1}/{len(server.body)}")
        if server.with_length:
            self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        stop = start + server.drops.pop(0) if server.drops else None
        self.wfile.write(server.body[start:stop])

    def log_message(self, *args) -> None:
        """Stay quiet."""


@pytest.fixture
def server(tiny, monkeypatch) -> Iterator[SimpleNamespace]:
    """A server on this machine that plays zenodo; attributes say how it behaves."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(npz, "RETRY_WAIT_S", 0)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    vars(httpd).update(body=BODY, with_ranges=True, with_length=True, drops=[], ranges=[], answer=None, location="/", shift=0)
    Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    tiny["url"] = f"http://127.0.0.1:{httpd.server_port}/tinymnist.npz"
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def test_download_checks_the_md5_and_is_done_once(tmp_path, server):
    lines: list[str] = []
    path = obtain_archive(DOWNLOAD, tmp_path / "data", lines.append)
    assert path.read_bytes() == BODY
    assert os.listdir(tmp_path / "data") == ["tinymnist.npz"]
    assert any("(100 %)" in line for line in lines)
    assert read_archive(path, DOWNLOAD, NAMES).status == "official"
    assert obtain_archive(DOWNLOAD, tmp_path / "data", silent) == path
    assert server.ranges == [None]


def test_a_dropped_connection_is_taken_up_where_it_ended(tmp_path, server):
    server.drops = [3000, 2000]
    assert obtain_archive(DOWNLOAD, tmp_path, silent).read_bytes() == BODY
    assert server.ranges == [None, "bytes=3000-", "bytes=5000-"]


@pytest.mark.parametrize("with_ranges", [True, False])
def test_a_later_run_goes_on_where_one_broke_off(tmp_path, server, monkeypatch, with_ranges):
    server.with_ranges, server.drops = with_ranges, [3000]
    monkeypatch.setattr(npz, "TRIES", 1)
    with pytest.raises(ArchiveError, match=rf"ended after 3000 of {len(BODY)} bytes\); run again to go on where it stopped"):
        obtain_archive(DOWNLOAD, tmp_path, silent)
    assert (tmp_path / "tinymnist.npz.part").read_bytes() == BODY[:3000]
    assert not (tmp_path / "tinymnist.npz").exists()
    assert obtain_archive(DOWNLOAD, tmp_path, silent).read_bytes() == BODY
    assert server.ranges == [None, "bytes=3000-"]
    assert os.listdir(tmp_path) == ["tinymnist.npz"]


def test_a_part_that_is_whole_is_used(tmp_path, server):
    (tmp_path / "tinymnist.npz.part").write_bytes(BODY)
    assert obtain_archive(DOWNLOAD, tmp_path, silent).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_a_part_that_is_too_long_is_dropped(tmp_path, server):
    (tmp_path / "tinymnist.npz.part").write_bytes(BODY + b"more")
    assert obtain_archive(DOWNLOAD, tmp_path, silent).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY) + 4}-", None]


def test_a_server_that_sends_another_range_is_not_believed(tmp_path, server):
    (tmp_path / "tinymnist.npz.part").write_bytes(BODY[:100])
    server.shift = 1
    assert obtain_archive(DOWNLOAD, tmp_path, silent).read_bytes() == BODY
    assert server.ranges == ["bytes=100-", None]


@pytest.mark.parametrize("part", [b"", b"of another file"])
def test_a_wrong_md5_is_refused_and_the_part_removed(tmp_path, server, part):
    if part:
        (tmp_path / "tinymnist.npz.part").write_bytes(part)
    else:
        server.body = BODY[:-1] + b"x"
    with pytest.raises(ArchiveError, match=rf"has MD5 \w+ instead of {MD5} and was removed; run again to fetch it anew\.$"):
        obtain_archive(DOWNLOAD, tmp_path, silent)
    assert not any(tmp_path.iterdir())


def test_a_file_of_another_md5_is_not_overwritten(tmp_path, server):
    path = put(tmp_path, b"mine")
    with pytest.raises(ArchiveError, match=r"stands in the way of the download and has not the official MD5 .*; move it away, or"):
        obtain_archive(DOWNLOAD, tmp_path, silent)
    assert path.read_bytes() == b"mine"
    assert server.ranges == []


def test_a_length_that_is_not_told_is_done_without(tmp_path, server):
    server.with_length = False
    assert obtain_archive(DOWNLOAD, tmp_path, silent).read_bytes() == BODY


@pytest.mark.parametrize("answer, tries", [(404, 1), (503, npz.TRIES)])
def test_what_the_server_refuses_is_told(tmp_path, server, answer, tries):
    server.answer = answer
    with pytest.raises(ArchiveError, match=f"HTTP Error {answer}"):
        obtain_archive(DOWNLOAD, tmp_path, silent)
    assert len(server.ranges) == tries
    assert not any(tmp_path.iterdir())


def test_only_http_is_spoken_also_after_a_redirect(tmp_path, server, tiny):
    secret = put(tmp_path, BODY, Data(dataset="secret", size=28, source="file"))
    server.answer = 302
    for server.location in (secret.as_uri(), "ftp://127.0.0.1/x"):
        with pytest.raises(ArchiveError, match=r"the download from .* broke off"):
            obtain_archive(DOWNLOAD, tmp_path, silent)
    tiny["url"] = secret.as_uri()
    with pytest.raises(ArchiveError, match="unknown url type: file"):
        obtain_archive(DOWNLOAD, tmp_path, silent)
    assert os.listdir(tmp_path) == ["secret.npz"]


def test_progress_is_told_about_every_five_percent(monkeypatch):
    lines: list[str] = []
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: 0)
    report = npz._progress("a", 0, 10_000, lines.append)
    for now in range(1, 10_001):
        report(now)
    assert len(lines) == 20
    lines.clear()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    report = npz._progress("a", 0, None, lines.append)
    for now in range(100):
        report(now)
    assert 5 < len(lines) < 30


# --- the real archive ------------------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_file(), reason=f"no real archive at {REAL}; set VDM_REAL_DATA to a pneumoniamnist.npz of 28 pixels")
def test_the_real_archive():
    found = read_archive(REAL, Data(dataset="pneumoniamnist", size=28, source="file"), NAMES)
    assert found.n == 5856
    assert found.status in ("official", "unverified")
    assert found.class_counts(2) == {"train": [1214, 3494], "val": [135, 389], "test": [234, 390]}
    assert found.image_ids("test")[-1] == "pneumoniamnist_test_000623"
    assert 100 < found.splits["train"].images.mean() < 180
