"""Sampling: the images of plain diffusers, the same at any batch size, and adapters that must act."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.generation.draw import Texts
from vdm_pipeline.stages.generation.pipeline import Sampler, fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter, plan
from vdm_pipeline.stages.models.diffusion import encode_prompts, load_part, quiet_hf_logging
from vdm_pipeline_tests.stages.generation.jobs import (
    BASE,
    CPU,
    LCM,
    arm_of,
    draw,
    generating,
    make_job,
    pixels,
)
from vdm_pipeline_tests.stages.training.jobs import trained

LATENT = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(1))


def plain_diffusers(profile, scheduler, adapters, steps, guidance) -> list[np.ndarray]:
    """The plan by diffusers' own pipeline, adapters unfused, image by image."""
    with quiet_hf_logging():
        pipe = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
        for adapter in adapters:
            pipe.load_lora_weights(adapter.path, adapter_name=adapter.name)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_adapters([a.name for a in adapters], [a.weight for a in adapters])
    pipe.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "height": 64,
        "width": 64,
        "output_type": "np",
    }
    samples = plan(profile.classes, profile.generation)
    return [
        pipe(shot.prompt, generator=torch.Generator().manual_seed(shot.seed), **options).images[0]
        for shot in samples
    ]


def floats(job) -> np.ndarray:
    """All images of a job as `ImageGenerator` draws them, before they are rounded."""
    sampler, texts = Sampler(job.arm, CPU, torch.float32, job.batch, print), Texts(job, CPU, torch.float32)
    padded = [group + group[-1:] * (job.batch - len(group)) for group in job.groups()]
    return np.concatenate([sampler.draw(texts.of(group), [s.seed for s in group]) for group in padded])[
        : len(job.samples)
    ]


@pytest.mark.parametrize(("guidance", "weights"), [(1.0, (1.0, 0.5)), (4.0, (1.0, 0.5)), (1.0, (0.4, 1.5))])
def test_image_is_that_of_plain_diffusers(tiny, guidance, weights):
    profile, adapters = (
        generating(tiny, per_class=1),
        [Adapter("lcm", LCM.path, weights[0]), Adapter("lora", LCM.path, weights[1])],
    )
    ours = floats(make_job(profile, BASE, arm=arm_of(profile, *adapters, guidance_scale=guidance)))
    theirs = plain_diffusers(profile, LCMScheduler, adapters, 2, guidance)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 0.1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_dpm_is_that_of_plain_diffusers(tiny, guidance):
    profile, adapters = generating(tiny, per_class=1), [Adapter("lora", LCM.path, 0.2)]
    ours = floats(
        make_job(
            profile,
            BASE,
            arm=arm_of(profile, *adapters, scheduler="dpm", num_inference_steps=6, guidance_scale=guidance),
        )
    )
    np.testing.assert_allclose(
        ours, plain_diffusers(profile, DPMSolverMultistepScheduler, adapters, 6, guidance), atol=1e-4
    )


def test_batch_size_changes_no_image(tiny):
    one, three, eight = (
        floats(make_job(generating(tiny, per_class=4), BASE, batch=batch)) for batch in (1, 3, 8)
    )
    np.testing.assert_allclose(three, one, atol=1e-4)
    np.testing.assert_allclose(eight, one, atol=1e-4)


CUDA_IS_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
MPS_IS_FULL = RuntimeError(
    "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)"
)


@pytest.mark.parametrize(
    ("guidance", "error"), [(1.0, CUDA_IS_FULL), (3.0, MPS_IS_FULL)], ids=["CUDA", "MPS, guided"]
)
def test_out_of_memory_halves_what_is_drawn_at_a_time_and_changes_no_image(
    tiny, monkeypatch, guidance, error
):
    job = make_job(generating(tiny, per_class=4), BASE, batch=7, arm=arm_of(tiny, guidance_scale=guidance))
    whole, lines, tried = floats(job), [], []
    sampler, texts = (
        Sampler(job.arm, CPU, torch.float32, job.batch, lines.append),
        Texts(job, CPU, torch.float32),
    )
    plain = sampler.predict

    def two_fit(latents, *rest, **options):
        tried.append(len(latents) // (2 if guidance > 1 else 1))
        if tried[-1] > 2:
            raise error
        return plain(latents, *rest, **options)

    monkeypatch.setattr(sampler, "predict", two_fit)
    padded = [group + group[-1:] * (job.batch - len(group)) for group in job.groups()]
    found = np.concatenate([sampler.draw(texts.of(group), [s.seed for s in group]) for group in padded])[
        : len(job.samples)
    ]
    np.testing.assert_allclose(found, whole, atol=1e-4)
    assert lines == [f"out of memory: going on with {n} images at a time, to the same result" for n in (3, 1)]
    assert tried.count(7) == 1, "what did not fit is not tried again"


def test_what_is_not_for_want_of_memory_is_not_tried_again(tiny, monkeypatch):
    sampler, tried = Sampler(arm_of(tiny), CPU, torch.float32, 2, print), []

    def breaks(*rest, **options):
        tried.append(1)
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(sampler, "predict", breaks)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        sampler.draw(encode_prompts(BASE, ["a", "b"], CPU, torch.float32), [0, 1])
    assert len(tried) == 1


def test_memory_that_does_not_hold_one_image_is_a_sentence(tiny, monkeypatch):
    sampler = Sampler(arm_of(tiny), CPU, torch.float32, 2, print)

    def none_fits(*rest, **options):
        raise CUDA_IS_FULL

    monkeypatch.setattr(sampler, "predict", none_fits)
    with pytest.raises(
        PipelineError,
        match=r"^1 images at a time do not fit the GPU's memory; set a smaller training\.resolution",
    ):
        sampler.draw(encode_prompts(BASE, ["a", "b"], CPU, torch.float32), [0, 1])


def test_a_compiled_unet_draws_the_same(tiny, monkeypatch):
    """Traced as on a GPU, and run as traced: to make machine code of it would take half a minute, and is torch's affair."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    job = make_job(generating(tiny, per_class=1), BASE, batch=2)
    sampler, texts = (
        Sampler(job.arm, CPU, torch.float32, 2, print, compiled=True),
        Texts(job, CPU, torch.float32),
    )
    assert sampler.predict is not sampler.unet
    np.testing.assert_allclose(
        sampler.draw(texts.of(job.samples), [s.seed for s in job.samples]), floats(job), atol=1e-3
    )


@pytest.mark.parametrize(
    "kind",
    [{}, {"use_dora": True}, {"target_modules": ("to_q", "conv1", "ff.net.2")}],
    ids=["LoRA", "DoRA", "all"],
)
def test_fused_is_unfused_and_leaves_plain_layers(tiny, tmp_path, kind):
    path = trained(
        tiny,
        tmp_path / "run",
        training={"rank": 2, "alpha": 5.0, "max_train_steps": 4, "learning_rate": 0.05, **kind},
    )
    adapters = [Adapter("lora", path.parent, 0.7), LCM]
    unet = load_unet_with_adapters(BASE, adapters)
    with torch.inference_mode():
        before = unet(LATENT, 500, TEXT, return_dict=False)[0]
        fuse(unet, adapters)
        after = unet(LATENT, 500, TEXT, return_dict=False)[0]
        base = load_part(BASE, "unet")(LATENT, 500, TEXT, return_dict=False)[0]
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    assert (after - base).abs().max() > 1e-2
    assert not [name for name, _ in unet.named_modules() if "lora" in name or "base_layer" in name]


def test_no_adapter_is_the_base(tiny):
    arm = arm_of(tiny).model_copy(update={"adapters": (), "scheduler": "dpm"})
    sampler, base = Sampler(arm, CPU, torch.float32, 2, print), load_part(BASE, "unet")
    with torch.inference_mode():
        torch.testing.assert_close(
            sampler.unet(LATENT, 9, TEXT).sample, base(LATENT, 9, TEXT).sample, atol=1e-5, rtol=0
        )


def test_adapter_that_changes_nothing_is_an_error(tmp_path):
    idle = {
        key: value * 0 if "lora_B" in key else value
        for key, value in load_file(LCM.path / LORA_WEIGHTS).items()
    }
    save_file(idle, tmp_path / LORA_WEIGHTS)
    with pytest.raises(ModelError, match=r"'lora' .* is not active"):
        load_unet_with_adapters(BASE, [LCM, Adapter("lora", tmp_path, 1.0)])


def test_both_adapters_act():
    unet = load_unet_with_adapters(BASE, [LCM, Adapter("lora", LCM.path, 0.5)])
    assert set(unet.active_adapters()) == {"lcm", "lora"}
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    assert layer.scaling["lora"] == pytest.approx(layer.scaling["lcm"] / 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so(tiny, monkeypatch, value):
    """An infinity must not be clamped to white."""
    sampler = Sampler(arm_of(tiny), CPU, torch.float32, 2, print)
    plain = sampler.vae.decode

    def broken(latents, **options):
        decoded = plain(latents, **options)[0].clone()
        decoded[1, 0, 0, 0] = value
        return (decoded,)

    monkeypatch.setattr(sampler.vae, "decode", broken)
    images = sampler.draw(encode_prompts(BASE, ["a", "b"], CPU, torch.float32), [0, 1])
    assert np.isnan(images).sum() == 1
    assert np.isnan(images[1, 0, 0, 0])


def test_guidance_reads_the_empty_prompt_and_each_prompt_is_encoded_once(tiny, monkeypatch):
    from vdm_pipeline.stages.generation import draw as module

    asked = []
    monkeypatch.setattr(
        module,
        "encode_prompts",
        lambda base, prompts, *a: (asked.append(prompts), encode_prompts(base, prompts, *a))[1],
    )
    job = make_job(tiny, BASE, arm=arm_of(tiny, guidance_scale=2.0))
    texts = Texts(job, CPU, torch.float32)
    assert asked == [["", tiny.classes.caption(0), tiny.classes.caption(1)]]
    both = texts.of(job.samples[2:4])
    assert torch.equal(both[:2], texts.encoded[[0, 0]])
    assert torch.equal(both[2:], texts.encoded[[1, 2]])
    assert len(Texts(make_job(tiny, BASE), CPU, torch.float32).of(job.samples[2:4])) == 2


def test_colour_is_kept_where_grey_is_not_asked_for(tiny, tmp_path):
    draw(generating(tiny, grey=False), tmp_path / "colour")
    rows = draw(generating(tiny, grey=True), tmp_path / "grey")
    colour, grey = pixels(tmp_path / "colour"), pixels(tmp_path / "grey")
    assert {image.shape for image in colour} == {(64, 64, 3)}
    assert all(np.array_equal(np.round(a.mean(2)), b) for a, b in zip(colour, grey, strict=True))
    spread = [(image.max(2) - image.min(2)).mean() for image in colour]
    assert [row["chroma"] for row in rows] == pytest.approx(spread, abs=1e-3)
    assert min(spread) > 0
