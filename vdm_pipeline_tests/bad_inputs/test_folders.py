"""Folders of images and tables that a stage reads without Dagster: a notebook may pass any folder."""

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import read_png
from vdm_pipeline.stages.evaluation.inputs import read_arm
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer
from vdm_pipeline.stages.evaluation.real_images import subset_images
from vdm_pipeline.stages.labelling.labels import read_labels
from vdm_pipeline_tests.bad_inputs.case import Case, parametrize, snapshot

NAMES = ("normal", "pneumonia")
Change = Callable[[Path], object]


def table(content: bytes) -> Change:
    """Replace the table of images."""
    return lambda folder: (folder / "metadata.jsonl").write_bytes(content)


def first_row(**changes: object) -> Change:
    """Change values of the first row; None removes a key."""

    def make(folder: Path) -> None:
        path = folder / "metadata.jsonl"
        first, *others = path.read_text(encoding="utf-8").splitlines()
        values = json.loads(first) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        path.write_text("\n".join([json.dumps(kept), *others]) + "\n", encoding="utf-8")

    return make


def first_image(folder: Path) -> Path:
    """Path of the first image in the table."""
    with (folder / "metadata.jsonl").open(encoding="utf-8") as file:
        return folder / json.loads(file.readline())["file_name"]


def image_content(content: bytes) -> Change:
    """Replace the bytes of the first image."""
    return lambda folder: first_image(folder).write_bytes(content)


def replace_image(create: Callable[[Path], object]) -> Change:
    """Put something else in the place of the first image."""

    def make(folder: Path) -> None:
        path = first_image(folder)
        path.unlink()
        create(path)

    return make


def cut_image_in_half(folder: Path) -> None:
    """Remove the second half of the first image."""
    path = first_image(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, without the data."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def encoded(array: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    """The array as the bytes of an image file."""
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


GREY = np.full((64, 64), 90, np.uint8)
ROWS = [
    Case(
        "`metadata.jsonl` that is missing",
        "metadata.jsonl",
        lambda folder: (folder / "metadata.jsonl").unlink(),
    ),
    Case("`metadata.jsonl` without rows", "subset", table(b"")),
    Case("row that is not JSON", "metadata.jsonl line 1", table(b"{'file_name': 'a.png'}\n")),
    Case("row nested 100,000 deep", "metadata.jsonl line 1", table(b"[" * 100_000 + b"\n")),
    Case(
        "row with a number of 5000 digits",
        "metadata.jsonl line 1",
        table(b'{"seed": ' + b"9" * 5000 + b"}\n"),
    ),
    Case("row that is not UTF-8", "metadata.jsonl line 1", table(b'{"text": "\xff"}\n')),
    Case("row that is a list", "metadata.jsonl line 1", table(b'["images/a.png"]\n')),
    Case("row without a key", "'ground_truth'", first_row(ground_truth=None)),
    Case("file name that is a number", "'file_name'", first_row(file_name=5)),
    Case("label that is not a class", "classes.names", first_row(label="cat")),
    Case("file name with `../`", "'../../secret.png'", first_row(file_name="../../secret.png")),
    Case("file name that is absolute", "'/etc/hostname'", first_row(file_name="/etc/hostname")),
    Case("file name with a line break", r"'a\nb.png'", first_row(file_name="a\nb.png")),
    Case("file name with NUL", r"'a\x00.png'", first_row(file_name="a\0.png")),
    Case("file name of 300 letters", "x" * 300, first_row(file_name="x" * 300)),
]
IMAGES = [
    Case(
        "link to an image outside the folder",
        "metadata.jsonl",
        replace_image(lambda path: path.symlink_to("/etc/hostname")),
    ),
    Case("image that is missing", ".png", replace_image(lambda path: None)),
    Case("text under an image's name", ".png", image_content(b"no image")),
    Case("image cut short", ".png", cut_image_in_half),
    Case("JPEG under a PNG's name", ".png", image_content(encoded(GREY, "JPEG"))),
    Case("folder instead of an image", ".png", replace_image(Path.mkdir)),
    Case("pipe instead of an image", ".png", replace_image(os.mkfifo)),
    Case("image of 60,000 x 60,000 pixels", ".png", image_content(huge_png(60_000, 60_000))),
    Case("image of 5,000 x 1 pixels", ".png", image_content(huge_png(5000, 1))),
    Case(
        "image with 16 bits per channel",
        ".png",
        image_content(encoded(np.full((64, 64), 40_000, np.uint16))),
    ),
    Case("image of another size", ".png", image_content(encoded(GREY[:32]))),
    Case("colour image among grey images", ".png", image_content(encoded(GREY, mode="RGB"))),
]
ARM = Case("generated image without its chroma", "'chroma'", first_row(chroma="none"))
LABELS = [
    Case(
        "labels that are not a table",
        "labels.csv",
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe"),
    ),
    Case(
        "labels without a column",
        "confidence_score",
        lambda path: path.write_text("image_id,auto_label,ground_truth,ground_truth_label,split\n"),
    ),
    Case("labels that are an empty file", "labels.csv", Path.touch),
]
CASES = [*ROWS, *IMAGES, ARM, *LABELS]


@pytest.fixture
def subset(finished_folder, tmp_path) -> Path:
    """A copy of the finished project's subset."""
    shutil.copytree(finished_folder[1] / "data/subset", tmp_path / "subset")
    return tmp_path / "subset"


@parametrize([*ROWS, *IMAGES])
def test_damaged_folder_is_rejected_and_kept(case, subset, sentences):
    case.make(subset)
    before = snapshot(subset)
    with pytest.raises(PipelineError) as caught:
        subset_images(subset, NAMES, 64)
    sentences.check(case, str(caught.value), subset.parent)
    assert snapshot(subset) == before


def test_damaged_arm_is_rejected(finished_folder, tmp_path, sentences):
    shutil.copytree(finished_folder[1] / "results/generated_images", tmp_path / "arm")
    ARM.make(tmp_path / "arm")
    with pytest.raises(PipelineError) as caught:
        read_arm(tmp_path / "arm", NAMES, ImageMeasurer(judge=None, spaces={}))  # type: ignore[arg-type]
    sentences.check(ARM, str(caught.value), tmp_path)


@parametrize(LABELS)
def test_damaged_table_of_labels_is_rejected_and_kept(case, tmp_path, sentences):
    case.make(tmp_path / "labels.csv")
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        read_labels(tmp_path / "labels.csv")
    sentences.check(case, str(caught.value), tmp_path)
    assert snapshot(tmp_path) == before


def test_image_with_transparency_is_read_as_grey(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(GREY, mode="RGBA"))
    assert (read_png(tmp_path, "x.png") == GREY).all()
