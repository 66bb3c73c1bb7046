"""Drawing: records inside the images, going on after an interruption, and what is drawn again."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.hashing import file_sha256, folder_digest
from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.generation import draw as module
from vdm_pipeline.stages.generation.draw import Texts, made, to_uint8
from vdm_pipeline.stages.generation.plan import plan
from vdm_pipeline_tests.stages.generation.jobs import (
    BASE,
    CPU,
    LCM,
    arm_of,
    contents,
    draw,
    with_generation,
    make_job,
    pixels,
)


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """Names of the images that are written from now on."""
    names: list[str] = []
    real = module.write_png
    monkeypatch.setattr(
        module, "write_png", lambda path, *a, **k: (names.append(path.name), real(path, *a, **k))
    )
    return names


def test_same_call_gives_the_same_bytes_and_seeds_differ(tiny, tmp_path):
    draw(tiny, tmp_path / "a")
    draw(tiny, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    first, second = pixels(tmp_path / "a")[:2]
    assert np.abs(first - second).max() > 10


def test_provenance_stands_in_the_png_and_in_the_table(tiny, tmp_path):
    rows = draw(tiny, tmp_path / "x")
    assert read_rows(tmp_path / "x/metadata.jsonl") == rows
    assert [row["file_name"] for row in rows] == [f"gen_00{index}.png" for index in range(6)]
    with Image.open(tmp_path / "x/gen_000.png") as image:
        assert image.mode == "L"
        assert json.loads(image.text["parameters"]) == rows[0]
    keys = ["file_name", "label", "prompt", "seed", "scheduler", "steps", "guidance_scale", "size", "grey"]
    assert list(rows[0]) == [
        *keys,
        "adapters",
        "base_model",
        "lora_sha256",
        "lcm_sha256",
        "pixels_sha256",
        "chroma",
    ]
    assert [row["seed"] for row in rows] == [tiny.generation.seed + i for i in range(6)]
    assert rows[0]["size"] == tiny.training.resolution
    assert rows[0]["base_model"] == f"embedded:sd@{folder_digest(BASE)}"
    assert (rows[0]["lora_sha256"], rows[0]["lcm_sha256"]) == (None, file_sha256(LCM.file))
    assert rows[0]["adapters"] == {"lcm": 1.0}


def test_rows_keep_the_order_of_the_plan_beyond_three_digits(tiny, tmp_path):
    first = plan(tiny.classes, tiny.generation)[0]
    samples = [dataclasses.replace(first, index=index) for index in (999, 1000)]
    assert [row["file_name"] for row in draw(tiny, tmp_path / "x", samples=samples)] == [
        "gen_999.png",
        "gen_1000.png",
    ]


@pytest.mark.parametrize("gone", [("gen_004.png",), ("gen_000.png", "gen_003.png", "metadata.jsonl")])
def test_interrupted_generation_makes_the_missing_images_alone(tiny, tmp_path, written, gone):
    draw(tiny, tmp_path / "x")
    whole = contents(tmp_path / "x")
    written.clear()
    for name in gone:
        (tmp_path / "x" / name).unlink()
    (tmp_path / "x/.gen_004.png.0123abcd.part.png").write_bytes(b"half")
    assert len(draw(tiny, tmp_path / "x")) == 6
    assert sorted(written) == [name for name in gone if name.endswith("png")]
    assert contents(tmp_path / "x") == whole


def test_every_forward_pass_has_the_shape_of_a_full_batch(tiny, tmp_path, monkeypatch):
    sizes: list[tuple[int, int]] = []
    real = module.Sampler.draw
    monkeypatch.setattr(
        module.Sampler,
        "draw",
        lambda self, texts, seeds: (sizes.append((len(texts), len(seeds))), real(self, texts, seeds))[1],
    )
    draw(tiny, tmp_path / "x", batch=4)
    (tmp_path / "x/gen_005.png").unlink()
    draw(tiny, tmp_path / "x", batch=4)
    assert sizes == [(4, 4)] * 3


def test_whole_folder_loads_no_model(tiny, tmp_path, monkeypatch):
    rows = draw(tiny, tmp_path / "x")
    monkeypatch.setattr(module, "Sampler", None)
    assert draw(tiny, tmp_path / "x") == rows


def test_more_shots_make_the_new_images_alone(tiny, tmp_path, written):
    samples = plan(tiny.classes, tiny.generation)
    draw(tiny, tmp_path / "x", samples=samples[:5])
    draw(tiny, tmp_path / "x", samples=samples)
    assert sorted(written) == [shot.file_name for shot in samples]
    draw(tiny, tmp_path / "y", samples=samples)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def rewrite(path, change) -> None:
    """The PNG with other parameters."""
    with Image.open(path) as image:
        image.load()
        pixels, record = np.asarray(image), json.loads(image.text["parameters"])
    write_png(path, pixels, {"parameters": json.dumps(change(record))})


def repaint(path, pixels: np.ndarray) -> None:
    """Another picture under the same parameters."""
    with Image.open(path) as image:
        parameters = image.text["parameters"]
    write_png(path, pixels, {"parameters": parameters})


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.write_bytes(b""),
        lambda path: repaint(path, np.zeros((64, 64), np.uint8)),
        lambda path: repaint(path, np.zeros((32, 40), np.uint8)),
        lambda path: rewrite(path, lambda record: record | {"chroma": float("nan")}),
        lambda path: write_png(path, np.zeros((64, 64), np.uint8)),
        lambda path: rewrite(path, lambda record: record | {"seed": record["seed"] + 1}),
        lambda path: rewrite(path, lambda record: record | {"adapters": {"lcm": 0.5}}),
        lambda path: rewrite(path, lambda record: record | {"more": 1}),
        lambda path: rewrite(
            path, lambda record: {key: value for key, value in record.items() if key != "chroma"}
        ),
        lambda path: rewrite(path, lambda record: [record]),
    ],
    ids=[
        "cut short",
        "a byte short",
        "longer",
        "empty",
        "blank",
        "another shape",
        "no colour",
        "no record",
        "seed",
        "weight",
        "another key",
        "a key less",
        "no object",
    ],
)
def test_damaged_or_foreign_image_is_drawn_again(tiny, tmp_path, written, damage):
    profile = with_generation(tiny, per_class=1)
    draw(profile, tmp_path / "x")
    whole = contents(tmp_path / "x")
    written.clear()
    damage(tmp_path / "x/gen_001.png")
    draw(profile, tmp_path / "x")
    assert written == ["gen_001.png"]
    assert contents(tmp_path / "x") == whole


def test_image_of_another_arm_is_not_taken(tiny, tmp_path):
    profile = with_generation(tiny, per_class=1)
    draw(profile, tmp_path / "x")
    shot = plan(profile.classes, profile.generation)[0]
    assert made(make_job(profile, tmp_path / "x"), shot)
    others = [
        {"num_inference_steps": 3},
        {"guidance_scale": 2.0},
        {"scheduler": "dpm"},
        {"size": 32},
        {"grey": False},
        {"base_model": "other"},
    ]
    for changes in [*others, {"adapter_sha256": {"lcm": "0"}}, {"adapter_sha256": {"lora": "0"}}]:
        assert made(make_job(profile, tmp_path / "x", arm=arm_of(profile, LCM, **changes)), shot) is None


def test_progress_counts_what_is_there(tiny, tmp_path):
    from vdm_pipeline.stages.generation.launch import generate

    told: list[tuple[int, int]] = []
    draw(tiny, tmp_path / "x")
    (tmp_path / "x/gen_005.png").unlink()
    generate(make_job(tiny, tmp_path / "x"), print, lambda *counts: told.append(counts))
    assert told == [(6, 6)]


def test_images_that_are_not_finite_are_counted_and_the_first_named(tiny):
    samples = plan(tiny.classes, tiny.generation)[:3]
    images = np.zeros((3, 4, 4, 3), np.float32)
    images[1:, 0, 0, 0] = np.nan, np.inf
    with pytest.raises(
        PipelineError,
        match=r"^2 of 3 images .* gen_001\.png \(seed 43\), are not finite: .*; lower the weight",
    ):
        to_uint8(images, samples)


def test_colour_spread_is_that_before_an_image_was_made_grey(tiny, tmp_path):
    profile = with_generation(tiny, per_class=1)
    grey, colour = (
        draw(profile, tmp_path / str(kept), arm=arm_of(profile, LCM, grey=kept)) for kept in (True, False)
    )
    for row in colour:
        with Image.open(tmp_path / "False" / row["file_name"]) as image:
            assert image.mode == "RGB"
            pixels = np.asarray(image).astype(float)
        assert row["chroma"] == pytest.approx((pixels.max(2) - pixels.min(2)).mean(), abs=1e-4)
        assert row["chroma"] > 0
    assert [row["chroma"] for row in grey] == [row["chroma"] for row in colour]


def test_texts_without_a_prompt_come_first_with_guidance(tiny, tmp_path):
    samples = plan(tiny.classes, tiny.generation)[2:4]
    plain, guided = (
        Texts(make_job(tiny, tmp_path, arm=arm_of(tiny, LCM, guidance_scale=scale)), CPU, torch.float32).of(
            samples
        )
        for scale in (1.0, 2.0)
    )
    assert plain.shape[0] == 2 and guided.shape[0] == 4
    assert torch.equal(guided[2:], plain) and torch.equal(guided[0], guided[1])
    assert not any(torch.equal(guided[0], text) for text in plain)


def test_floats_are_rounded_to_the_nearest_level(tiny):
    levels = np.array([0, 0.4, 0.6, 254.6, 255], np.float32) / 255
    assert to_uint8(
        np.tile(levels[None, :, None, None], (1, 1, 1, 3)), plan(tiny.classes, tiny.generation)[:1]
    )[0, :, 0, 0].tolist() == [
        0,
        0,
        1,
        255,
        255,
    ]


@pytest.mark.parametrize("name", ["gen_001.png", "metadata.jsonl"])
def test_a_folder_in_the_place_of_a_file_is_told(tiny, tmp_path, name):
    (tmp_path / "x" / name).mkdir(parents=True)
    with pytest.raises(
        PipelineError, match=rf"{name} is a folder, and a file is to stand there; move it away\.$"
    ):
        draw(tiny, tmp_path / "x")


def test_a_file_in_the_place_of_the_folder_is_told(tiny, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(PipelineError, match="x is a file, and a folder of images is to stand there"):
        draw(tiny, tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_an_image_that_cannot_be_written_is_told(tiny, tmp_path, monkeypatch):
    def full(*args, **kwargs) -> None:
        raise OSError("no room")

    monkeypatch.setattr(module, "write_png", full)
    with pytest.raises(OSError, match="no room"):
        draw(tiny, tmp_path / "x")
