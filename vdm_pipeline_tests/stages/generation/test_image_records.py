"""Records inside the images: what they hold, and which images they make valid."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdm_pipeline.io.hashing import file_sha256, folder_digest
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.generation.image_records import read_record
from vdm_pipeline.stages.generation.plan import plan
from vdm_pipeline_tests.profiles import shrink
from vdm_pipeline_tests.stages.generation.jobs import (
    BASE,
    LCM,
    arm_of,
    contents,
    generate_rows,
    make_job,
    with_generation,
)

KEYS = [
    "file_name",
    "label",
    "prompt",
    "seed",
    "scheduler",
    "steps",
    "guidance_scale",
    "size",
    "grey",
    "adapters",
    "base_model",
    "lora_sha256",
    "lcm_sha256",
    "pixels_sha256",
    "chroma",
]


def test_provenance_is_in_the_png_and_in_the_table(tiny, tmp_path):
    rows = generate_rows(tiny, tmp_path / "x")
    assert read_rows(tmp_path / "x/metadata.jsonl") == rows
    assert [row["file_name"] for row in rows] == [f"gen_00{index}.png" for index in range(6)]
    with Image.open(tmp_path / "x/gen_000.png") as image:
        assert image.mode == "L"
        assert json.loads(image.text["parameters"]) == rows[0]
    assert list(rows[0]) == KEYS
    assert [row["seed"] for row in rows] == [tiny.generation.seed + i for i in range(6)]
    assert rows[0]["size"] == tiny.training.resolution
    assert rows[0]["base_model"] == f"embedded:sd@{folder_digest(BASE)}"
    assert (rows[0]["lora_sha256"], rows[0]["lcm_sha256"]) == (None, file_sha256(LCM.file))
    assert rows[0]["adapters"] == {"lcm": 1.0}


def test_rows_keep_the_order_of_the_plan_beyond_three_digits(tiny, tmp_path):
    first = plan(tiny.classes, tiny.generation)[0]
    samples = [dataclasses.replace(first, index=index) for index in (999, 1000)]
    rows = generate_rows(tiny, tmp_path / "x", samples=samples)
    assert [row["file_name"] for row in rows] == ["gen_999.png", "gen_1000.png"]


def change_record(path, change) -> None:
    """Write the same pixels with another record."""
    with Image.open(path) as image:
        image.load()
        pixels, record = np.asarray(image), json.loads(image.text["parameters"])
    write_png(path, pixels, {"parameters": json.dumps(change(record))})


def change_pixels(path, pixels: np.ndarray) -> None:
    """Write other pixels with the same record."""
    with Image.open(path) as image:
        parameters = image.text["parameters"]
    write_png(path, pixels, {"parameters": parameters})


BLANK = np.zeros((64, 64), np.uint8)
DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "a byte missing": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "empty": lambda path: path.write_bytes(b""),
    "blank": lambda path: change_pixels(path, BLANK),
    "other shape": lambda path: change_pixels(path, np.zeros((32, 40), np.uint8)),
    "NaN as chroma": lambda path: change_record(path, lambda record: record | {"chroma": float("nan")}),
    "no record": lambda path: write_png(path, BLANK),
    "other seed": lambda path: change_record(path, lambda record: record | {"seed": record["seed"] + 1}),
    "other weight": lambda path: change_record(path, lambda record: record | {"adapters": {"lcm": 0.5}}),
    "additional key": lambda path: change_record(path, lambda record: record | {"more": 1}),
    "missing key": lambda path: change_record(
        path, lambda record: {key: value for key, value in record.items() if key != "chroma"}
    ),
    "not an object": lambda path: change_record(path, lambda record: [record]),
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """Two images, of the profile ``tiny`` with one image per class."""
    folder = tmp_path_factory.mktemp("generated")
    generate_rows(with_generation(shrink(load_profile("demo")), per_class=1), folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_or_foreign_image_is_generated_again(tiny, tmp_path, generated, written, damage):
    profile = with_generation(tiny, per_class=1)
    shutil.copytree(generated, tmp_path / "x")
    before = contents(tmp_path / "x")
    damage(tmp_path / "x/gen_001.png")
    generate_rows(profile, tmp_path / "x")
    assert written == ["gen_001.png"]
    assert contents(tmp_path / "x") == before


@pytest.mark.parametrize(
    "changes",
    [
        {"num_inference_steps": 3},
        {"guidance_scale": 2.0},
        {"scheduler": "dpm"},
        {"size": 32},
        {"grey": False},
        {"base_model": "other"},
        {"adapter_sha256": {"lcm": "0"}},
        {"adapter_sha256": {"lora": "0"}},
    ],
)
def test_image_of_another_arm_is_not_valid(tiny, generated, changes):
    profile = with_generation(tiny, per_class=1)
    sample = plan(profile.classes, profile.generation)[0]
    assert read_record(make_job(profile, generated), sample)
    other = make_job(profile, generated, arm=arm_of(profile, LCM, **changes))
    assert read_record(other, sample) is None
