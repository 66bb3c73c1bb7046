"""Folders of images and tables as the stages read them, where no record guards them: a notebook may point a stage anywhere."""

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
from vdm_pipeline.stages.evaluation.evaluate import read_arm
from vdm_pipeline.stages.evaluation.real_images import subset_images
from vdm_pipeline.stages.evaluation.samples import Measures
from vdm_pipeline.stages.labelling.labels import read_labels
from vdm_pipeline_tests.bad_inputs.case import Case, check, each, snapshot

NAMES = ("normal", "pneumonia")
AGAIN = "materialize its asset again."
UNREAD = f"…cannot be read as an image (…); {AGAIN}"


def table(content: bytes) -> Callable[[Path], None]:
    return lambda folder: ((folder / "metadata.jsonl").write_bytes(content), None)[1]


def row(**changes: object) -> Callable[[Path], None]:
    """The first row with other values; None drops a key."""

    def make(folder: Path) -> None:
        lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        values = {key: value for key, value in (json.loads(lines[0]) | changes).items() if value is not None}
        (folder / "metadata.jsonl").write_text(
            "\n".join([json.dumps(values), *lines[1:]]) + "\n", encoding="utf-8"
        )

    return make


def image(folder: Path) -> Path:
    """Where the first image stands."""
    with (folder / "metadata.jsonl").open(encoding="utf-8") as file:
        return folder / json.loads(file.readline())["file_name"]


def as_image(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (image(folder).write_bytes(content), None)[1]


def instead_of_image(make: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: (image(folder).unlink(), make(image(folder)))[0]


def claim(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose data hold none of it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


def encoded(array: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(file, kind)
    return file.getvalue()


def half_image(folder: Path) -> None:
    path = image(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


GREY = np.full((64, 64), 90, np.uint8)
ROWS = [
    Case(
        "`metadata.jsonl` that is not there",
        f"…metadata.jsonl cannot be read (No such file or directory); {AGAIN}",
        lambda folder: (folder / "metadata.jsonl").unlink(),
    ),
    Case("`metadata.jsonl` without rows", f"…subset holds no image; {AGAIN}", table(b"")),
    Case(
        "row that is no JSON",
        f"…metadata.jsonl line 1 is no valid JSON (…); {AGAIN}",
        table(b"{'file_name': 'a.png'}\n"),
    ),
    Case(
        "row that is a list",
        f"…metadata.jsonl line 1 is no JSON object; {AGAIN}",
        table(b'["images/a.png"]\n'),
    ),
    Case(
        "row nested 100,000 deep",
        f"…metadata.jsonl line 1 is no valid JSON (…); {AGAIN}",
        table(b"[" * 100_000 + b"\n"),
    ),
    Case(
        "row with a number of 5000 digits",
        f"…metadata.jsonl line 1 is no valid JSON (…); {AGAIN}",
        table(b'{"seed": ' + b"9" * 5000 + b"}\n"),
    ),
    Case(
        "row that is not UTF-8",
        f"…metadata.jsonl line 1 is no valid JSON (…); {AGAIN}",
        table(b'{"text": "\xff"}\n'),
    ),
    Case(
        "row without a key",
        f"…metadata.jsonl line 1 lacks 'ground_truth', or it is no text; {AGAIN}",
        row(ground_truth=None),
    ),
    Case(
        "file name that is a number",
        f"…metadata.jsonl line 1 lacks 'file_name', or it is no text; {AGAIN}",
        row(file_name=5),
    ),
    Case(
        "label that is no class",
        f"…subset has an image of 'cat', which is none of classes.names; {AGAIN}",
        row(label="cat"),
    ),
    Case(
        "file name that climbs",
        "'../../secret.png' in …subset leaves that folder; correct its metadata.jsonl.",
        row(file_name="../../secret.png"),
    ),
    Case(
        "file name that is absolute",
        "'/etc/hostname' in …subset leaves that folder; correct its metadata.jsonl.",
        row(file_name="/etc/hostname"),
    ),
    Case(
        "file name with a line break",
        rf"'a\nb.png' in …subset is no file's name; {AGAIN}",
        row(file_name="a\nb.png"),
    ),
    Case(
        "file name with NUL", rf"'a\x00.png' in …subset is no file's name; {AGAIN}", row(file_name="a\0.png")
    ),
    Case("file name of 300 letters", f"…cannot be read as an image (…); {AGAIN}", row(file_name="x" * 300)),
]
IMAGES = [
    Case(
        "link to an image outside the folder",
        "'images/….png' in …subset leaves that folder; correct its metadata.jsonl.",
        instead_of_image(lambda path: path.symlink_to("/etc/hostname")),
    ),
    Case("image that is not there", UNREAD, instead_of_image(lambda path: None)),
    Case("text under an image's name", UNREAD, as_image(b"no image")),
    Case("image cut short", UNREAD, half_image),
    Case("JPEG under a PNG's name", UNREAD, as_image(encoded(GREY, "JPEG"))),
    Case("folder in the place of an image", UNREAD, instead_of_image(Path.mkdir)),
    Case("pipe in the place of an image", UNREAD, instead_of_image(os.mkfifo)),
    Case("image of 60,000 x 60,000 pixels", UNREAD, as_image(claim(60_000, 60_000))),
    Case(
        "image of 5,000 x 1 pixels",
        "…png is 5000 x 1 pixels; at most 4096 a side are read.",
        as_image(claim(5000, 1)),
    ),
    Case(
        "image of 16 bits",
        "…png has more than eight bits a channel; save it with eight.",
        as_image(encoded(np.full((64, 64), 40_000, np.uint16))),
    ),
    Case(
        "image of another size",
        f"…png has another size or other channels than images/….png; {AGAIN}",
        as_image(encoded(GREY[:32])),
    ),
    Case(
        "colour among grey images",
        f"…png has another size or other channels than images/….png; {AGAIN}",
        as_image(encoded(GREY, mode="RGB")),
    ),
]
ARM = Case(
    "generated image without its chroma",
    f"…metadata.jsonl lacks 'chroma', or it is no number; {AGAIN}",
    row(chroma="none"),
)
LABELS = [
    Case(
        "labels that are no table",
        "…labels.csv is no table of labels (…); materialize labeled_dataset again.",
        lambda path: (path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe"), None)[1],
    ),
    Case(
        "labels without a column",
        "…labels.csv lacks the column confidence_score; materialize labeled_dataset again.",
        lambda path: (path.write_text("image_id,auto_label,ground_truth,ground_truth_label,split\n"), None)[
            1
        ],
    ),
    Case(
        "labels that are an empty file",
        "…labels.csv is no table of labels (EmptyDataError); materialize labeled_dataset again.",
        Path.touch,
    ),
]
CASES = [*ROWS, *IMAGES, ARM, *LABELS]


@pytest.fixture
def subset(finished, tmp_path) -> Path:
    shutil.copytree(finished[1] / "data/subset", tmp_path / "subset")
    return tmp_path / "subset"


@each([*ROWS, *IMAGES])
def test_a_damaged_folder_is_a_sentence_and_stays(case, subset):
    case.make(subset)
    before = snapshot(subset)
    with pytest.raises(PipelineError) as caught:
        subset_images(subset, NAMES, 64)
    check(case, str(caught.value))
    assert snapshot(subset) == before


def test_a_damaged_arm_is_a_sentence(finished, tmp_path):
    shutil.copytree(finished[1] / "results/generated_images", tmp_path / "arm")
    ARM.make(tmp_path / "arm")
    with pytest.raises(PipelineError) as caught:
        read_arm(tmp_path / "arm", NAMES, Measures(judge=None, spaces={}))  # type: ignore[arg-type]
    check(ARM, str(caught.value))


@each(LABELS)
def test_a_damaged_table_of_labels_is_a_sentence(case, tmp_path):
    case.make(tmp_path / "labels.csv")
    before = snapshot(tmp_path)
    with pytest.raises(PipelineError) as caught:
        read_labels(tmp_path / "labels.csv")
    check(case, str(caught.value))
    assert snapshot(tmp_path) == before


def test_an_image_with_transparency_is_read_grey(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(GREY, mode="RGBA"))
    assert (read_png(tmp_path, "x.png") == GREY).all()
