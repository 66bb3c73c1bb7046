"""Images per second: ``python -m vdm_pipeline_tests.benchmarks.sampling [--images 128] [--rounds 9]``.

Three candidates alternate on the same machine, with their models loaded; the result is the median round.

- Ours, with PNGs and metadata.
- A plain diffusers loop with the first prototype's settings: batch 2, attention slicing, prompts encoded per
  batch, LCM-LoRA and LoRA active by ``set_adapters`` without fusing, PNGs saved. It is slow, so it generates
  a quarter of the images.
- Only the calls of our UNet and VAE on prepared tensors, in our batches.
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
PROTOTYPE = "the prototype's loop"


def make_job(images: int) -> Job:
    """A plan with the LCM-LoRA, which also replaces our adapter."""
    profile = load_profile("demo")
    generation = profile.generation.model_copy(update={"per_class": images // 2})
    return Job(
        arm=main_arm(profile, EMBEDDED / "sd", EMBEDDED / "lcm_lora", EMBEDDED / "lcm_lora"),
        samples=tuple(plan(profile.classes, generation)),
        folder=Path(),
        execution=profile.execution,
    )


def prototype(job: Job) -> Any:
    """The pipeline of diffusers with the settings of the first prototype."""
    from diffusers import LCMScheduler, StableDiffusionPipeline

    with quiet_hf_logging():
        pipe = StableDiffusionPipeline.from_pretrained(job.arm.base, dtype=torch.float32, safety_checker=None)
        for adapter in job.arm.adapters:
            pipe.load_lora_weights(adapter.path, adapter_name=adapter.name)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    names = [adapter.name for adapter in job.arm.adapters]
    pipe.set_adapters(names, [adapter.weight for adapter in job.arm.adapters])
    pipe.enable_attention_slicing()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def by_prototype(pipe: Any, job: Job, folder: Path) -> None:
    """The loop of the prototype over its share of the images."""
    options = {
        "num_inference_steps": job.arm.num_inference_steps,
        "guidance_scale": job.arm.guidance_scale,
        "height": job.arm.size,
        "width": job.arm.size,
    }
    for start in range(0, len(job.samples) // PROTOTYPE_SHARE, PROTOTYPE_BATCH):
        batch = job.samples[start : start + PROTOTYPE_BATCH]
        generators = [torch.Generator().manual_seed(sample.seed) for sample in batch]
        images = pipe([sample.prompt for sample in batch], generator=generators, **options).images
        for sample, image in zip(batch, images, strict=True):
            image.save(folder / sample.file_name)


@torch.inference_mode()
def bare(sampler: Sampler, job: Job, text: torch.Tensor) -> None:
    """Only the calls of UNet and VAE, on prepared tensors."""
    latents = torch.randn(job.batch_size, 4, job.arm.size // 8, job.arm.size // 8)
    for _ in job.groups():
        for _ in range(job.arm.num_inference_steps):
            sampler.unet(latents, 500, text, return_dict=False)
        sampler.vae.decode(latents, return_dict=False)


def candidates(job: Job, root: Path) -> dict[str, Callable[[], None]]:
    """The candidates with their models loaded."""
    sampler = Sampler(job.arm, CPU, torch.float32, job.batch_size, print)
    embeddings, pipe = PromptEmbeddings(job, CPU, torch.float32), prototype(job)
    text = embeddings.for_samples(job.samples[: job.batch_size]).clone()
    image_generator_module.Sampler = lambda *a, **k: sampler  # type: ignore[assignment,misc]
    image_generator_module.PromptEmbeddings = lambda *a: embeddings  # type: ignore[assignment,misc]

    def ours() -> None:
        folder = Path(tempfile.mkdtemp(dir=root))
        generator = ImageGenerator(job.model_copy(update={"folder": folder}), CPU, torch.float32, print)
        generator.generate(job.groups(), lambda *counts: None)

    return {
        "ours": ours,
        "bare UNet and VAE": lambda: bare(sampler, job, text),
        PROTOTYPE: lambda: by_prototype(pipe, job, Path(tempfile.mkdtemp(dir=root))),
    }


def compare(job: Job, root: Path, rounds: int) -> None:
    """Print images per second and ratios."""
    functions = candidates(job, root)
    rates: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, run in functions.items():
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            if index:  # the first round warms up
                count = len(job.samples) // (PROTOTYPE_SHARE if name == PROTOTYPE else 1)
                rates[name].append(count / seconds)
    print(f"embedded model, {job.arm.size} px, {job.arm.num_inference_steps} steps", end=", ")
    print(f"{len(job.samples)} images in batches of {job.batch_size}", end=", ")
    print(f"{torch.get_num_threads()} threads, median of {rounds} rounds", flush=True)
    for name, values in rates.items():
        ratio = statistics.median(ours / other for ours, other in zip(rates["ours"], values, strict=True))
        print(
            f"  {name:22} {statistics.median(values):8.3f} images/s; ours is {ratio:.2f} x that", flush=True
        )


def main() -> None:
    """Compare the candidates with the embedded model and the settings of the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(make_job(arguments.images), Path(name), arguments.rounds)


if __name__ == "__main__":
    main()
