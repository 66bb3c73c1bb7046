"""The sampler: the images of plain diffusers, the same at any batch size."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, StableDiffusionPipeline

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.generation.plan import Adapter, plan
from vdm_pipeline.stages.models.diffusion import encode_prompts, quiet_hf_logging
from vdm_pipeline_tests.stages.generation.jobs import (
    BASE,
    CPU,
    LCM,
    arm_of,
    make_job,
    make_sampler,
    sample_floats,
    with_generation,
)


def diffusers_images(profile, scheduler, adapters, num_inference_steps, guidance_scale) -> list[np.ndarray]:
    """The plan by diffusers' own pipeline, with unfused adapters, image by image."""
    with quiet_hf_logging():
        pipe = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
        for adapter in adapters:
            pipe.load_lora_weights(adapter.path, adapter_name=adapter.name)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_adapters([a.name for a in adapters], [a.weight for a in adapters])
    pipe.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "height": 64,
        "width": 64,
        "output_type": "np",
    }
    return [
        pipe(sample.prompt, generator=torch.Generator().manual_seed(sample.seed), **options).images[0]
        for sample in plan(profile.classes, profile.generation)
    ]


@pytest.mark.parametrize(("guidance", "weights"), [(1.0, (1.0, 0.5)), (4.0, (1.0, 0.5)), (1.0, (0.4, 1.5))])
def test_images_are_those_of_plain_diffusers(tiny, guidance, weights):
    profile = with_generation(tiny, per_class=1)
    adapters = [Adapter("lcm", LCM.path, weights[0]), Adapter("lora", LCM.path, weights[1])]
    arm = arm_of(profile, *adapters, guidance_scale=guidance)
    images = sample_floats(make_job(profile, BASE, arm=arm))
    expected = diffusers_images(profile, LCMScheduler, adapters, 2, guidance)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    assert np.abs(images[0] - images[1]).max() > 0.1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_dpm_images_are_those_of_plain_diffusers(tiny, guidance):
    profile, adapters = with_generation(tiny, per_class=1), [Adapter("lora", LCM.path, 0.2)]
    arm = arm_of(profile, *adapters, scheduler="dpm", num_inference_steps=6, guidance_scale=guidance)
    images = sample_floats(make_job(profile, BASE, arm=arm))
    expected = diffusers_images(profile, DPMSolverMultistepScheduler, adapters, 6, guidance)
    np.testing.assert_allclose(images, expected, atol=1e-4)


def test_batch_size_changes_no_image(tiny):
    profile = with_generation(tiny, per_class=4)
    one, three, eight = (sample_floats(make_job(profile, BASE, batch=batch)) for batch in (1, 3, 8))
    np.testing.assert_allclose(three, one, atol=1e-4)
    np.testing.assert_allclose(eight, one, atol=1e-4)


CUDA_OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
MPS_OUT_OF_MEMORY = RuntimeError(
    "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)"
)


@pytest.mark.parametrize(
    ("guidance", "error"),
    [(1.0, CUDA_OUT_OF_MEMORY), (3.0, MPS_OUT_OF_MEMORY)],
    ids=["CUDA", "MPS with guidance"],
)
def test_out_of_memory_halves_the_batch_and_changes_no_image(tiny, monkeypatch, guidance, error):
    profile, arm = with_generation(tiny, per_class=4), arm_of(tiny, guidance_scale=guidance)
    job = make_job(profile, BASE, batch=7, arm=arm)
    lines, batch_sizes = [], []
    sampler = make_sampler(job, log=lines.append)
    original = sampler.unet_forward

    def two_fit(latents, *args, **options):
        batch_sizes.append(len(latents) // (2 if guidance > 1 else 1))
        if batch_sizes[-1] > 2:
            raise error
        return original(latents, *args, **options)

    monkeypatch.setattr(sampler, "unet_forward", two_fit)
    np.testing.assert_allclose(sample_floats(job, sampler), sample_floats(job), atol=1e-4)
    assert [("out of memory" in line, str(n) in line) for line, n in zip(lines, (3, 1), strict=True)] == [
        (True, True)
    ] * 2
    assert batch_sizes.count(7) == 1, "a batch size that did not fit is not tried again"


def test_errors_other_than_out_of_memory_are_raised_at_once(tiny, monkeypatch):
    sampler, calls = make_sampler(make_job(tiny, BASE)), []

    def fail(*args, **options):
        calls.append(1)
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(sampler, "unet_forward", fail)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        sampler.sample(encode_prompts(BASE, ["a", "b"], CPU, torch.float32), [0, 1])
    assert len(calls) == 1


def test_memory_that_does_not_fit_one_image_is_an_error(tiny, monkeypatch):
    sampler = make_sampler(make_job(tiny, BASE))

    def none_fits(*args, **options):
        raise CUDA_OUT_OF_MEMORY

    monkeypatch.setattr(sampler, "unet_forward", none_fits)
    with pytest.raises(PipelineError, match=r"memory.*training\.resolution"):
        sampler.sample(encode_prompts(BASE, ["a", "b"], CPU, torch.float32), [0, 1])


def test_compiled_unet_gives_the_same_images(tiny, monkeypatch):
    """Traced as on a GPU, and run as traced; compiling to machine code takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    job = make_job(with_generation(tiny, per_class=1), BASE, batch=2)
    sampler = make_sampler(job, compiled=True)
    assert sampler.unet_forward is not sampler.unet
    np.testing.assert_allclose(sample_floats(job, sampler), sample_floats(job), atol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_pixels_that_are_not_finite_become_nan(tiny, monkeypatch, value):
    """An infinity must not be clamped to white."""
    sampler = make_sampler(make_job(tiny, BASE))
    original = sampler.vae.decode

    def broken(latents, **options):
        decoded = original(latents, **options)[0].clone()
        decoded[1, 0, 0, 0] = value
        return (decoded,)

    monkeypatch.setattr(sampler.vae, "decode", broken)
    images = sampler.sample(encode_prompts(BASE, ["a", "b"], CPU, torch.float32), [0, 1])
    assert np.isnan(images).sum() == 1
    assert np.isnan(images[1, 0, 0, 0])
