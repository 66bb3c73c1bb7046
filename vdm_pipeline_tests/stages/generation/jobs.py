"""A small generation with the embedded model."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.generation.image_generator import PromptEmbeddings
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.generation.pipeline import Sampler
from vdm_pipeline.stages.generation.plan import Adapter, Arm, main_arm, plan
from vdm_pipeline.stages.models.pins import EMBEDDED

BASE, CPU = EMBEDDED / "sd", torch.device("cpu")
LCM = Adapter("lcm", EMBEDDED / "lcm_lora", 1.0)


def with_generation(profile: Profile, **changes) -> Profile:
    """The profile with other settings of its generation."""
    return profile.model_copy(update={"generation": profile.generation.model_copy(update=changes)})


def arm_of(profile: Profile, *adapters: Adapter, **changes) -> Arm:
    """The baseline's arm with these adapters; by default only the LCM-LoRA."""
    arm = main_arm(profile, BASE, LCM.path, None)
    return arm.model_copy(update={"adapters": adapters or (LCM,), **changes})


def make_job(
    profile: Profile,
    folder: Path,
    *,
    arm: Arm | None = None,
    samples=None,
    batch: int = 4,
    processes: int = 1,
) -> Job:
    """The profile's plan, or other samples, with the baseline's arm or another one."""
    samples = samples or plan(profile.classes, profile.generation)
    execution = profile.execution.model_copy(
        update={"generation_batch_size": batch, "num_processes": processes}
    )
    return Job(arm=arm or arm_of(profile), samples=tuple(samples), folder=folder, execution=execution)


def generate_rows(profile: Profile, folder: Path, **changes) -> list[dict]:
    """Generate, and return the rows."""
    return generate(make_job(profile, folder, **changes), print, lambda done, total: None)[0]


def make_sampler(job: Job, *, log=print, compiled: bool = False) -> Sampler:
    """The sampler of the job's arm, on the CPU."""
    return Sampler(job.arm, CPU, torch.float32, job.batch_size, log, compiled=compiled)


def sample_floats(job: Job, sampler: Sampler | None = None) -> np.ndarray:
    """All images of a job as `ImageGenerator` samples them, before they are rounded."""
    sampler, embeddings = sampler or make_sampler(job), PromptEmbeddings(job, CPU, torch.float32)
    padded = [group + group[-1:] * (job.batch_size - len(group)) for group in job.groups()]
    batches = [
        sampler.sample(embeddings.for_samples(group), [sample.seed for sample in group]) for group in padded
    ]
    return np.concatenate(batches)[: len(job.samples)]


def pixels(folder: Path) -> list[np.ndarray]:
    """The images of a folder."""
    return [np.asarray(Image.open(path), dtype=int) for path in sorted(folder.glob("gen_*.png"))]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
