"""Generating images: the same bytes for the same plan, resuming, and what is generated again."""

import numpy as np
import pytest
import torch
from PIL import Image

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.generation import image_generator as module
from vdm_pipeline.stages.generation import image_records
from vdm_pipeline.stages.generation.image_generator import PromptEmbeddings, to_uint8
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.generation.plan import plan
from vdm_pipeline.stages.models.diffusion import encode_prompts
from vdm_pipeline_tests.stages.generation.jobs import (
    BASE,
    CPU,
    LCM,
    arm_of,
    contents,
    generate_rows,
    make_job,
    pixels,
    with_generation,
)


def test_same_job_gives_the_same_bytes_and_seeds_differ(tiny, tmp_path):
    generate_rows(tiny, tmp_path / "a")
    generate_rows(tiny, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    first, second = pixels(tmp_path / "a")[:2]
    assert np.abs(first - second).max() > 10


@pytest.mark.parametrize("gone", [("gen_004.png",), ("gen_000.png", "gen_003.png", "metadata.jsonl")])
def test_interrupted_generation_resumes_with_the_missing_images(tiny, tmp_path, written, gone):
    generate_rows(tiny, tmp_path / "x")
    before = contents(tmp_path / "x")
    written.clear()
    for name in gone:
        (tmp_path / "x" / name).unlink()
    (tmp_path / "x/.gen_004.png.0123abcd.part.png").write_bytes(b"half")
    assert len(generate_rows(tiny, tmp_path / "x")) == 6
    assert sorted(written) == [name for name in gone if name.endswith("png")]
    assert contents(tmp_path / "x") == before


def test_every_forward_pass_has_the_shape_of_a_full_batch(tiny, tmp_path, monkeypatch):
    sizes: list[tuple[int, int]] = []
    original = module.Sampler.sample

    def sample(self, prompt_embeds, seeds):
        sizes.append((len(prompt_embeds), len(seeds)))
        return original(self, prompt_embeds, seeds)

    monkeypatch.setattr(module.Sampler, "sample", sample)
    generate_rows(tiny, tmp_path / "x", batch=4)
    (tmp_path / "x/gen_005.png").unlink()
    generate_rows(tiny, tmp_path / "x", batch=4)
    assert sizes == [(4, 4)] * 3


def test_complete_folder_loads_no_model(tiny, tmp_path, monkeypatch):
    rows = generate_rows(tiny, tmp_path / "x")
    monkeypatch.setattr(module, "Sampler", None)
    assert generate_rows(tiny, tmp_path / "x") == rows


def test_larger_plan_generates_only_the_new_images(tiny, tmp_path, written):
    samples = plan(tiny.classes, tiny.generation)
    generate_rows(tiny, tmp_path / "x", samples=samples[:5])
    generate_rows(tiny, tmp_path / "x", samples=samples)
    assert sorted(written) == [sample.file_name for sample in samples]
    generate_rows(tiny, tmp_path / "y", samples=samples)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def test_progress_counts_existing_images(tiny, tmp_path):
    reports: list[tuple[int, int]] = []
    generate_rows(tiny, tmp_path / "x")
    (tmp_path / "x/gen_005.png").unlink()
    generate(make_job(tiny, tmp_path / "x"), print, lambda *counts: reports.append(counts))
    assert reports == [(6, 6)]


def test_images_that_are_not_finite_are_an_error_that_names_the_first(tiny):
    samples = plan(tiny.classes, tiny.generation)[:3]
    images = np.zeros((3, 4, 4, 3), np.float32)
    images[1:, 0, 0, 0] = np.nan, np.inf
    with pytest.raises(PipelineError, match=r"^2 of 3 images .*not finite.* gen_001\.png \(seed 43\)"):
        to_uint8(images, samples)


def test_floats_are_rounded_to_the_nearest_level(tiny):
    levels = np.array([0, 0.4, 0.6, 254.6, 255], np.float32) / 255
    images = np.tile(levels[None, :, None, None], (1, 1, 1, 3))
    rounded = to_uint8(images, plan(tiny.classes, tiny.generation)[:1])
    assert rounded[0, :, 0, 0].tolist() == [0, 0, 1, 255, 255]


def test_grey_arm_saves_the_mean_of_the_channels_and_records_the_chroma_before(tiny, tmp_path):
    coloured = generate_rows(with_generation(tiny, grey=False), tmp_path / "colour")
    rows = generate_rows(with_generation(tiny, grey=True), tmp_path / "grey")
    colour, grey = pixels(tmp_path / "colour"), pixels(tmp_path / "grey")
    assert {image.shape for image in colour} == {(64, 64, 3)}
    assert all(np.array_equal(np.round(a.mean(2)), b) for a, b in zip(colour, grey, strict=True))
    chroma = [(image.max(2) - image.min(2)).mean() for image in colour]
    assert min(chroma) > 0
    assert [row["chroma"] for row in coloured] == pytest.approx(chroma, abs=1e-4)
    assert [row["chroma"] for row in rows] == [row["chroma"] for row in coloured]
    modes = [Image.open(tmp_path / name / "gen_000.png").mode for name in ("colour", "grey")]
    assert modes == ["RGB", "L"]


def test_prompts_are_encoded_once_and_with_guidance_the_empty_prompt_comes_first(tiny, monkeypatch):
    encoded = []

    def encode(base, prompts, *args):
        encoded.append(prompts)
        return encode_prompts(base, prompts, *args)

    monkeypatch.setattr(module, "encode_prompts", encode)
    job = make_job(tiny, BASE, arm=arm_of(tiny, LCM, guidance_scale=2.0))
    embeddings = PromptEmbeddings(job, CPU, torch.float32)
    assert encoded == [["", tiny.classes.caption(0), tiny.classes.caption(1)]]
    guided = embeddings.for_samples(job.samples[2:4])
    assert torch.equal(guided, embeddings.encoded[[0, 0, 1, 2]])
    assert not torch.equal(guided[0], guided[2]) and not torch.equal(guided[2], guided[3])
    plain = PromptEmbeddings(make_job(tiny, BASE), CPU, torch.float32).for_samples(job.samples[2:4])
    assert torch.equal(plain, guided[2:])


@pytest.mark.parametrize("name", ["gen_001.png", "metadata.jsonl"])
def test_folder_in_the_place_of_a_file_is_an_error(tiny, tmp_path, name):
    (tmp_path / "x" / name).mkdir(parents=True)
    with pytest.raises(PipelineError, match=rf"{name} is a folder"):
        generate_rows(tiny, tmp_path / "x")


def test_file_in_the_place_of_the_folder_is_an_error_and_stays(tiny, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(PipelineError, match="x is a file"):
        generate_rows(tiny, tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_error_of_a_writer_thread_is_raised(tiny, tmp_path, monkeypatch):
    def full(*args, **kwargs) -> None:
        raise OSError("no room")

    monkeypatch.setattr(image_records, "write_png", full)
    with pytest.raises(OSError, match="no room"):
        generate_rows(tiny, tmp_path / "x")
