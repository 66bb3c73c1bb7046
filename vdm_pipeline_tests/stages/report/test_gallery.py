"""Pictures: gallery columns with one prompt and seed, closest pairs, the contact sheet."""

import json

import numpy as np
import pytest
from PIL import Image

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import data_uri, read_png, write_png
from vdm_pipeline.io.tables import read_json, write_rows
from vdm_pipeline.stages.report.closest_pairs import (
    MAX_SINGLE_COPIES,
    closest_pairs,
    held_out_ids,
    single_copies,
)
from vdm_pipeline.stages.report.contact_sheet import contact_sheet
from vdm_pipeline.stages.report.formatting import number
from vdm_pipeline.stages.report.gallery import gallery
from vdm_pipeline.stages.report.pictures import THUMBNAIL_SIDE, evenly_spaced, thumbnail
from vdm_pipeline_tests.stages.report.conftest import HOSTILE
from vdm_pipeline_tests.stages.report.example import CLASS_NAMES


def gallery_rows(inputs) -> dict:
    return gallery(CLASS_NAMES, inputs.real_images, inputs.baseline, inputs.generated, inputs.extra)


def test_columns_share_prompt_and_seed(inputs):
    folders = {"baseline": inputs.baseline, "LoRA": inputs.generated, "dpm25": inputs.extra / "dpm25"}
    for label, rows in gallery_rows(inputs).items():
        assert [row.title for row in rows] == ["real", *folders]
        first = 3 * CLASS_NAMES.index(label)
        for row in rows[1:]:
            assert [picture.short for picture in row.pictures] == [f"seed {42 + first + i}" for i in range(3)]
            for index, picture in enumerate(row.pictures, first):
                assert picture.uri == data_uri(read_png(folders[row.title], f"gen_{index:03d}.png"))
                assert picture.alt == f"{row.title}, seed {42 + index}: {HOSTILE}"
                assert {f"prompt: {HOSTILE}", f"file gen_{index:03d}.png"} <= set(picture.lines)


def test_gallery_without_extra_arms_or_real_images(inputs):
    real = {"normal": np.empty(0, np.uint8)}
    rows = gallery((*CLASS_NAMES, "other"), real, inputs.baseline, inputs.generated)
    assert [row.title for row in rows["normal"]] == ["real", "baseline", "LoRA"]
    assert not rows["normal"][0].pictures
    assert not any(row.pictures for row in rows["other"])


def test_rows_of_large_images_are_shorter(inputs):
    real = {"normal": np.zeros((9, 256, 256), np.uint8), "pneumonia": np.zeros((9, 64, 64), np.uint8)}

    def row_lengths(images: dict) -> list[int]:
        rows = gallery(CLASS_NAMES, images, inputs.baseline, inputs.generated)
        return [len(rows[name][0].pictures) for name in CLASS_NAMES]

    assert row_lengths(real) == [4, 4]
    assert row_lengths({"pneumonia": real["pneumonia"]}) == [0, 8]


def test_thumbnails_are_not_enlarged():
    assert thumbnail(np.zeros((256, 256), np.uint8)).shape == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert thumbnail(np.zeros((64, 64, 3), np.uint8)).shape == (64, 64, 3)


def test_rows_are_evenly_spaced():
    assert [row["i"] for row in evenly_spaced([{"i": i} for i in range(64)], 8)] == list(range(0, 64, 8))


@pytest.mark.parametrize(
    ("arm", "key"),
    [
        ("baseline", "seed"),
        ("baseline", "prompt"),
        ("baseline", "steps"),
        ("baseline", "scheduler"),
        ("extra/dpm25", "seed"),
    ],
)
def test_images_that_are_not_a_pair_are_rejected(inputs, tmp_path, arm, key):
    path = tmp_path / arm / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_rows(path, [rows[0] | {key: 7}, *rows[1:]])
    with pytest.raises(PipelineError, match=rf"gen_000.png .* differ in {key}"):
        gallery_rows(inputs)


def test_closest_pairs_show_three_images(inputs):
    images = read_json(inputs.image_metrics)
    assert held_out_ids(images) == ["held_2", "held_0", "held_1"]
    pairs = closest_pairs(images, inputs.arms, inputs.subset, inputs.held_out_images)
    assert list(pairs) == ["labeller", "independent"]
    pair = pairs["labeller"][1]
    assert pair["generated"] == data_uri(read_png(inputs.generated, "gen_001.png"))
    assert pair["held_out"] == data_uri(inputs.held_out_images["held_1"])
    assert pair["train"] == data_uri(read_png(inputs.subset, "images/a.png"))


def test_closest_pairs_of_an_extra_arm(inputs):
    images = read_json(inputs.image_metrics)
    images["memorization"]["closest"]["labeller"][1]["arm"] = "dpm25"
    pair = closest_pairs(images, inputs.arms, inputs.subset, inputs.held_out_images)["labeller"][1]
    assert pair["generated"] == data_uri(read_png(inputs.extra / "dpm25", "gen_001.png"))
    assert pair["generated"] != data_uri(read_png(inputs.generated, "gen_001.png"))


def test_single_copies_show_the_copy_beside_its_training_image(inputs):
    images = read_json(inputs.image_metrics)
    (copy,) = single_copies(images, inputs.arms, inputs.subset, inputs.held_out_images)
    assert copy["generated"] == data_uri(read_png(inputs.generated, "gen_002.png"))
    assert copy["train"] == data_uri(read_png(inputs.subset, "images/a.png"))
    assert copy["held_out"] == data_uri(inputs.held_out_images["held_2"])
    ratio = images["memorization"]["single_copies"]["found"][0]["ratio"]
    assert copy["closeness"] == f"ratio {number(ratio)}, mirrored"


def test_only_the_first_single_copies_are_shown(inputs):
    images = read_json(inputs.image_metrics)
    images["memorization"]["single_copies"]["found"] *= 2 * MAX_SINGLE_COPIES
    shown = single_copies(images, inputs.arms, inputs.subset, inputs.held_out_images)
    assert len(shown) == MAX_SINGLE_COPIES


def test_closest_pairs_without_metrics(inputs):
    assert held_out_ids({}) == []
    assert single_copies({}, inputs.arms, inputs.subset, {}) == []
    assert closest_pairs({}, inputs.arms, inputs.subset, {}) == {}


def test_contact_sheet_keeps_colour(inputs, tmp_path):
    def sheet(name: str) -> Image.Image:
        contact_sheet(inputs.real_images, inputs.baseline, inputs.generated, tmp_path / name)
        return Image.open(tmp_path / name)

    assert sheet("grey.png").mode == "L"
    red = np.broadcast_to(np.uint8([200, 0, 0]), (64, 64, 3)).copy()
    write_png(inputs.baseline / "gen_000.png", red)
    pixels = np.asarray(sheet("colour.png"))
    assert pixels.ndim == 3
    assert (pixels == [200, 0, 0]).all(2).any()
