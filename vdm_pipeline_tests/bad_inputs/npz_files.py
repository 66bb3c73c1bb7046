"""Bytes of archives, good and bad."""

import io
import struct
import zipfile

import numpy as np


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of a good archive, some of them replaced."""
    rng, good = np.random.default_rng(0), {}
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        good[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        good[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    return good | changes


def saved(**changes: np.ndarray) -> bytes:
    """An archive with some arrays replaced."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays(**changes))
    return file.getvalue()


GOOD = arrays()


def without(key: str) -> bytes:
    """The good archive without one array."""
    file = io.BytesIO()
    np.savez(file, **{name: array for name, array in GOOD.items() if name != key})
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    """The good archive with the bytes of some members replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, members.get(info.filename.removesuffix(".npy"), old.read(info)))
    return file.getvalue()


def other_zip() -> bytes:
    """A zip that is not an archive of arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    return file.getvalue()


def encrypted() -> bytes:
    """The good archive with the encryption bit set in every header."""
    data = bytearray(saved())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(signature, start + 1)
    return bytes(data)


def bomb() -> bytes:
    """An archive with a member of 64 MiB of zeros, whose header claims 4.7 GB of images."""
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (6000000, 28, 28), }".ljust(117) + b"\n"
    return zipped(train_images=b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(2**26))


def uncompressed() -> bytearray:
    """The good archive without compression."""
    file = io.BytesIO()
    np.savez(file, **GOOD)
    return bytearray(file.getvalue())


def overlapping() -> bytes:
    """An archive whose directory points to the train images for the val images, too."""
    data = uncompressed()
    train, val = (
        data.find(name, data.find(b"PK\x01\x02")) - 46 for name in (b"train_images.npy", b"val_images.npy")
    )
    for start, end in ((16, 28), (42, 46)):
        data[val + start : val + end] = data[train + start : train + end]
    return bytes(data)


def changed_inside() -> bytes:
    """An archive with one label changed and the checksum of the old one."""
    data = uncompressed()
    data[data.find(b"\x93NUMPY", data.find(b"val_labels.npy")) + 128] ^= 1
    return bytes(data)
