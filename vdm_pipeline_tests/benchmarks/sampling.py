"""Images a second: ``python -m vdm_pipeline_tests.benchmarks.sampling [--images 128] [--rounds 9]``.

Ours, PNGs and records and all, against a plain diffusers loop with the first prototype's settings (batch 2, attention slicing,
prompts encoded a batch, LCM-LoRA and LoRA beside the weights by ``set_adapters``, PNGs saved), and against the bare calls of
our UNet and VAE on tensors that are ready, in our batches. The ways take turns on the same machine, each with its models
loaded beforehand, and the median round counts; the prototype draws a quarter of the images, as it takes so long.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.generation import image_generator as image_generator_module
from vdm_pipeline.stages.generation.image_generator import ImageGenerator, PromptEmbeddings
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.pipeline import Sampler
from vdm_pipeline.stages.generation.plan import main_arm, plan
from vdm_pipeline.stages.models.diffusion import quiet_hf_logging
from vdm_pipeline.stages.models.pins import EMBEDDED

CPU, PROTOTYPE_BATCH, PROTOTYPE_SHARE = torch.device("cpu"), 2, 4


def make_job(images: int) -> Job:
    """A plan of ``images`` images by LCM-LoRA, and the same file once more in the place of our adapter."""
    profile = load_profile("demo")
    generation = profile.generation.model_copy(update={"per_class": images // 2})
    return Job(
        arm=main_arm(profile, EMBEDDED / "sd", EMBEDDED / "lcm_lora", EMBEDDED / "lcm_lora"),
        samples=tuple(plan(profile.classes, generation)),
        folder=Path(),
        execution=profile.execution,
    )


def prototype(job: Job) -> Any:
    """diffusers' own pipeline, as the first prototype set it up."""
    from diffusers import LCMScheduler, StableDiffusionPipeline

    with quiet_hf_logging():
        pipe = StableDiffusionPipeline.from_pretrained(job.arm.base, dtype=torch.float32, safety_checker=None)
        for adapter in job.arm.adapters:
            pipe.load_lora_weights(adapter.path, adapter_name=adapter.name)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_adapters(
        [adapter.name for adapter in job.arm.adapters], [adapter.weight for adapter in job.arm.adapters]
    )
    pipe.enable_attention_slicing()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def by_prototype(pipe: Any, job: Job, folder: Path) -> None:
    """Its loop, over its share of the images."""
    options = {
        "num_inference_steps": job.arm.num_inference_steps,
        "guidance_scale": job.arm.guidance_scale,
        "height": job.arm.size,
        "width": job.arm.size,
    }
    for start in range(0, len(job.samples) // PROTOTYPE_SHARE, PROTOTYPE_BATCH):
        part = job.samples[start : start + PROTOTYPE_BATCH]
        generators = [torch.Generator().manual_seed(shot.seed) for shot in part]
        for shot, image in zip(
            part, pipe([shot.prompt for shot in part], generator=generators, **options).images, strict=True
        ):
            image.save(folder / shot.file_name)


@torch.inference_mode()
def bare(sampler: Sampler, job: Job, text: torch.Tensor) -> None:
    """UNet and VAE alone, as often as they are needed, on tensors that are ready."""
    latents = torch.randn(job.batch_size, 4, job.arm.size // 8, job.arm.size // 8)
    for _ in job.groups():
        for _ in range(job.arm.num_inference_steps):
            sampler.unet(latents, 500, text, return_dict=False)
        sampler.vae.decode(latents, return_dict=False)


def compare(job: Job, root: Path, rounds: int) -> None:
    """Print images a second and ratios."""
    sampler, texts, pipe = (
        Sampler(job.arm, CPU, torch.float32, job.batch_size, print),
        PromptEmbeddings(job, CPU, torch.float32),
        prototype(job),
    )
    ready = texts.for_samples(job.samples[: job.batch_size]).clone()
    image_generator_module.Sampler = lambda *a, **k: sampler  # type: ignore[assignment,misc]
    image_generator_module.PromptEmbeddings = lambda *a: texts  # type: ignore[assignment,misc]
    counter = iter(range(10**6))

    def fresh() -> Path:
        folder = root / str(next(counter))
        folder.mkdir()
        return folder

    def ours() -> None:
        ImageGenerator(job.model_copy(update={"folder": fresh()}), CPU, torch.float32, print).generate(
            job.groups(), lambda *counts: None
        )

    ways: dict[str, Callable[[], None]] = {
        "ours": ours,
        "bare UNet and VAE": lambda: bare(sampler, job, ready),
        "the prototype's loop": lambda: by_prototype(pipe, job, fresh()),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for index in range(rounds + 1):
        for way, run in ways.items():
            begun = time.perf_counter()
            run()
            if index:  # the first round warms up
                drawn = len(job.samples) // (PROTOTYPE_SHARE if way == "the prototype's loop" else 1)
                rates[way].append(drawn / (time.perf_counter() - begun))
    facts = f"{job.arm.size} px, {job.arm.num_inference_steps} steps, {torch.get_num_threads()} threads"
    print(
        f"embedded model, {facts}, {len(job.samples)} images in batches of {job.batch_size}, median of {rounds} rounds",
        flush=True,
    )
    for way, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], values, strict=True))
        told = "" if way == "ours" else f"; ours is {ratio:.2f} x that"
        print(f"  {way:22} {statistics.median(values):8.3f} images/s{told}", flush=True)


def main() -> None:
    """The embedded model, as the demo draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(make_job(asked.images), Path(name), asked.rounds)


if __name__ == "__main__":
    main()
