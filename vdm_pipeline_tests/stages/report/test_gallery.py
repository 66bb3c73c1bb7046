"""Pictures: columns of one prompt and seed, closest pairs, the contact sheet."""

import json

import numpy as np
import pytest
from PIL import Image
from vdm_pipeline.stages.report.copies import closest, held_out_ids

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import data_uri, read_png, write_png
from vdm_pipeline.io.tables import read_json, write_rows
from vdm_pipeline.stages.report.contact_sheet import contact_sheet
from vdm_pipeline.stages.report.gallery import gallery
from vdm_pipeline.stages.report.pictures import MODEST, modest, spread
from vdm_pipeline_tests.stages.report.conftest import HOSTILE
from vdm_pipeline_tests.stages.report.example import NAMES


def strips(run) -> dict:
    return gallery(NAMES, run.real, run.baseline, run.generated, run.extra)


def test_columns_share_prompt_and_seed(run):
    folders = {"baseline": run.baseline, "LoRA": run.generated, "dpm25": run.extra / "dpm25"}
    for label, found in strips(run).items():
        assert [strip.title for strip in found] == ["real", *folders]
        for strip in found[1:]:
            assert [picture.short for picture in strip.pictures] == [
                f"seed {42 + i + 3 * NAMES.index(label)}" for i in range(3)
            ]
            for index, picture in enumerate(strip.pictures, 3 * NAMES.index(label)):
                assert picture.uri == data_uri(read_png(folders[strip.title], f"gen_{index:03d}.png"))
                assert picture.alt == f"{strip.title}, seed {42 + index}: {HOSTILE}"
                assert f"prompt: {HOSTILE}" in picture.lines and f"file gen_{index:03d}.png" in picture.lines


def test_gallery_without_extra_arms_or_real_images(run):
    found = gallery((*NAMES, "other"), {"normal": np.empty(0, np.uint8)}, run.baseline, run.generated)
    assert [strip.title for strip in found["normal"]] == ["real", "baseline", "LoRA"]
    assert not found["normal"][0].pictures and not any(strip.pictures for strip in found["other"])


def test_large_images_are_fewer(run):
    real = {"normal": np.zeros((9, 256, 256), np.uint8), "pneumonia": np.zeros((9, 64, 64), np.uint8)}
    assert [len(gallery(NAMES, real, run.baseline, run.generated)[name][0].pictures) for name in NAMES] == [
        4,
        4,
    ]
    small = gallery(NAMES, {"pneumonia": real["pneumonia"]}, run.baseline, run.generated)
    assert [len(small[name][0].pictures) for name in NAMES] == [0, 8]
    assert modest(real["normal"][0]).shape == (MODEST, MODEST) and modest(real["pneumonia"][0]).shape == (
        64,
        64,
    )
    assert [row["i"] for row in spread([{"i": i} for i in range(64)], 8)] == list(range(0, 64, 8))


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
def test_images_that_are_no_pair_are_refused(run, tmp_path, arm, key):
    path = tmp_path / arm / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_rows(path, [rows[0] | {key: 7}, *rows[1:]])
    with pytest.raises(PipelineError, match=rf"gen_000.png .* differ in {key}"):
        strips(run)


def test_closest_pairs_show_three_images(run):
    images = read_json(run.image_metrics)
    assert held_out_ids(images) == ["held_0", "held_1"] and held_out_ids({}) == []
    found = closest(images, run.arms, run.subset, run.held_out)
    assert list(found) == ["labeller", "independent"]
    assert found["labeller"][1]["generated"] == data_uri(read_png(run.generated, "gen_001.png"))
    assert found["labeller"][1]["held_out"] == data_uri(run.held_out["held_1"])
    assert found["labeller"][1]["train"] == data_uri(read_png(run.subset, "images/a.png"))
    images["memorization"]["closest"]["labeller"][1]["arm"] = "dpm25"
    other = closest(images, run.arms, run.subset, run.held_out)["labeller"][1]["generated"]
    assert (
        other == data_uri(read_png(run.extra / "dpm25", "gen_001.png")) != found["labeller"][1]["generated"]
    )
    assert closest({}, run.arms, run.subset, {}) == {}


def test_contact_sheet_keeps_colour(run, tmp_path):
    contact_sheet(run.real, run.baseline, run.generated, tmp_path / "grey.png")
    assert Image.open(tmp_path / "grey.png").mode == "L"
    write_png(run.baseline / "gen_000.png", np.broadcast_to(np.uint8([200, 0, 0]), (64, 64, 3)).copy())
    contact_sheet(run.real, run.baseline, run.generated, tmp_path / "colour.png")
    sheet = np.asarray(Image.open(tmp_path / "colour.png"))
    assert sheet.ndim == 3 and (sheet == [200, 0, 0]).all(2).any()
