"""A small generation with the embedded model."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.launch import generate
from vdm_pipeline.stages.generation.plan import Adapter, Arm, main_arm, plan
from vdm_pipeline.stages.models.pins import EMBEDDED

BASE, CPU = EMBEDDED / "sd", torch.device("cpu")
LCM = Adapter("lcm", EMBEDDED / "lcm_lora", 1.0)


def generating(profile: Profile, **changes) -> Profile:
    """The profile with other values of its generation."""
    return profile.model_copy(update={"generation": profile.generation.model_copy(update=changes)})


def arm_of(profile: Profile, *adapters: Adapter, **changes) -> Arm:
    """The baseline's arm with these adapters, LCM-LoRA alone without any."""
    return main_arm(profile, BASE, LCM.path, None).model_copy(
        update={"adapters": adapters or (LCM,), **changes}
    )


def make_job(
    profile: Profile,
    folder: Path,
    *,
    arm: Arm | None = None,
    samples=None,
    batch: int = 4,
    processes: int = 1,
) -> Job:
    """The plan of the profile, or other shots, by the baseline's arm or another."""
    samples = samples or plan(profile.classes, profile.generation)
    execution = profile.execution.model_copy(
        update={"generation_batch_size": batch, "num_processes": processes}
    )
    return Job(arm=arm or arm_of(profile), samples=tuple(samples), folder=folder, execution=execution)


def draw(profile: Profile, folder: Path, **changes) -> list[dict]:
    """Generate, and return the rows."""
    return generate(make_job(profile, folder, **changes), print, lambda done, total: None)[0]


def pixels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path), dtype=int) for path in sorted(folder.glob("gen_*.png"))]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
