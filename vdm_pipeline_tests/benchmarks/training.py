"""Optimizer steps per second: ``python -m vdm_pipeline_tests.benchmarks.training [--official SCRIPT]``.

Compares ours with the forward and backward pass of the UNet with its adapter on prepared tensors. With
``--official``, it also compares with diffusers' example script ``train_text_to_image_lora.py``
(examples/text_to_image in its repository; it needs the package datasets), with the same base folder, images,
batch, resolution, rank and fp32. A copy of the script prints the clock at every optimizer step; its start and
its saving do not count. The candidates alternate on the same machine; the result is the median round.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.randomness import sample_step
from vdm_pipeline.stages.training.session import Session, open_session
from vdm_pipeline_tests.rehearsal.repositories import write_sd15

CAPTIONS = ["healthy lungs on a chest X-ray", "pneumonia on a chest X-ray"]
RANK, N_IMAGES = 8, 64
WARM_UP = 3
"""Steps before the time counts."""


def write_images(folder: Path, size: int) -> None:
    """Write an imagefolder of phantoms."""
    images = render(0, np.arange(N_IMAGES), np.arange(N_IMAGES) % 2 == 1, size)
    rows = []
    for index, image in enumerate(images):
        name = f"{index:03d}.png"
        write_png(folder / name, image)
        rows.append({"file_name": name, "text": CAPTIONS[index % 2]})
    write_rows(folder / "metadata.jsonl", rows)


def small_session(base: Path, root: Path, size: int, batch: int) -> Session:
    """Our training before its first step."""
    from accelerate import Accelerator

    profile = load_profile("demo")
    values = {"resolution": size, "batch_size": batch, "rank": RANK, "alpha": RANK, "max_train_steps": 10_000}
    (root / "out").mkdir(exist_ok=True)
    job = Job(
        base=base,
        subset=root / "images",
        held_out=root / "images",
        cache=root / "cache",
        state=root / f"state{batch}",
        out=root / "out",
        training=profile.training.model_validate({**profile.training.model_dump(), **values}),
        execution=profile.execution,
        metadata={},
    )
    return open_session(job, Accelerator(cpu=True, mixed_precision="no"), lambda line: None)


@dataclass(frozen=True)
class Setup:
    """What is trained: a step has ``batch * accumulation`` images, which ours takes at once."""

    name: str
    base: Path
    size: int
    batch: int
    accumulation: int
    steps: int
    rounds: int


def ours(session: Session, steps: int) -> float:
    """Optimizer steps per second of our loop, with random numbers."""
    training, data = session.job.training, session.data

    def step(index: int) -> None:
        session.learner.step(index, data, sample_step(data.n, data.latent_shape, training, 1000, index))

    return _rate(step, steps)


def bare(session: Session, steps: int) -> float:
    """Forward and backward passes per second on prepared tensors, without clipping and optimizer."""
    batch, parameters = session.job.training.batch_size, list(session.learner.parameters.values())
    noisy, noise = torch.randn(2, batch, *session.data.latent_shape)
    times, text = torch.randint(1000, (batch,)), session.data.text[torch.arange(batch) % 2].clone()

    def step(index: int) -> None:
        F.mse_loss(session.unet(noisy, times, text, return_dict=False)[0], noise).backward()
        for value in parameters:
            value.grad = None

    return _rate(step, steps)


def official(script: Path, root: Path, setup: Setup) -> float:
    """Optimizer steps per second of a copy of the script that prints the clock."""
    text, tick = script.read_text(), "print('TICK', time.perf_counter(), flush=True)"
    text, count = re.subn(r"^( +)(global_step \+= 1)$", rf"\1\2; import time; {tick}", text, flags=re.M)
    assert count == 1, "the script has changed"
    length = r"\1tokenizer.model_max_length = 77\n\1\2"
    text = re.sub(r"^( +)(text_encoder = CLIPTextModel)", length, text, count=1, flags=re.M)
    copy = root / "official.py"
    copy.write_text(text)
    options = {
        "train_batch_size": setup.batch,
        "gradient_accumulation_steps": setup.accumulation,
        "max_train_steps": WARM_UP + setup.steps,
        "seed": 0,
    }
    output, errors = run_script(copy, setup.base, root, setup.size, options)
    ticks = [float(line.split()[1]) for line in output if line.startswith("TICK")]
    assert len(ticks) == WARM_UP + setup.steps, errors
    return setup.steps / (ticks[-1] - ticks[WARM_UP - 1])


def run_script(
    copy: Path, base: Path, root: Path, size: int, options: Mapping[str, object]
) -> tuple[list[str], str]:
    """Run a copy of diffusers' script on the images in ``root``, in fp32 on the CPU.

    Returns the lines of its output, and the end of its errors.
    """
    common = {
        "pretrained_model_name_or_path": base,
        "train_data_dir": root / "images",
        "resolution": size,
        "rank": RANK,
        "output_dir": root / "official",
        "checkpointing_steps": 10**6,
        "report_to": "tensorboard",
    }
    arguments = [f"--{name}={value}" for name, value in {**common, **options}.items()]
    variables = {
        "ACCELERATE_USE_CPU": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(root / "datasets"),
    }
    command = [sys.executable, str(copy), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    return result.stdout.splitlines(), result.stderr[-3000:]


def _rate(step: Callable[[int], None], steps: int) -> float:
    for index in range(WARM_UP):
        step(index)
    start = time.perf_counter()
    for index in range(WARM_UP, WARM_UP + steps):
        step(index)
    return steps / (time.perf_counter() - start)


def compare(setup: Setup, script: Path | None) -> None:
    """Print steps per second and ratios."""
    rates: dict[str, list[float]] = {"ours": [], "bare forward and backward": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "images", setup.size)
        session = small_session(setup.base, root, setup.size, setup.batch * setup.accumulation)
        for _ in range(setup.rounds):
            rates["ours"].append(ours(session, setup.steps))
            rates["bare forward and backward"].append(bare(session, setup.steps))
            if script:
                rates.setdefault("diffusers' script", []).append(official(script, root, setup))
    print(f"{setup.name}, {setup.size} px, batch {setup.batch} x {setup.accumulation}", end=", ")
    print(f"median of {setup.rounds} rounds of {setup.steps} steps", flush=True)
    for name, values in rates.items():
        ratio = statistics.median(np.divide(rates["ours"], values))
        print(f"  {name:26} {statistics.median(values):7.3f} steps/s; ours is {ratio:.2f} x that", flush=True)


def main() -> None:
    """Compare at the first prototype's settings and at another batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, help="diffusers' train_text_to_image_lora.py")
    help_sd15 = "Stable Diffusion 1.5's architecture with random weights, at 256 px"
    parser.add_argument("--sd15", action="store_true", help=help_sd15)
    arguments = parser.parse_args()
    if arguments.sd15:
        with tempfile.TemporaryDirectory() as folder:
            name, base = "SD 1.5's architecture", write_sd15(Path(folder) / "sd15")
            compare(Setup(name, base, 256, 1, 4, steps=3, rounds=3), arguments.official)
            compare(Setup(name, base, 256, 1, 1, steps=8, rounds=3), arguments.official)
    else:
        name, base = "embedded model", EMBEDDED / "sd"
        compare(Setup(name, base, 64, 1, 4, steps=40, rounds=5), arguments.official)
        compare(Setup(name, base, 64, 16, 1, steps=40, rounds=5), arguments.official)


if __name__ == "__main__":
    main()
