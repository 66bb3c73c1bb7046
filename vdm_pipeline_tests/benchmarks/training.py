"""Optimizer steps a second: ``python -m vdm_pipeline_tests.benchmarks.training [--sd15] [--official train_text_to_image_lora.py]``.

Ours against the bare forward and backward pass of the UNet with its adapter on tensors that are ready, and, where its file is
named, against diffusers' example script (examples/text_to_image in its repository; it needs the package datasets): the same
base folder, images, batch, resolution, rank and fp32. The ways take turns on the same machine, and the median round counts.
Of the script, a copy is timed that prints the clock at every optimizer step; its start-up and its saving do not count.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
RANK, N_IMAGES, WARM = 8, 64, 3


def write_images(folder: Path, size: int) -> None:
    """An imagefolder of phantoms."""
    films = render(0, np.arange(N_IMAGES), np.arange(N_IMAGES) % 2 == 1, size)
    names = [f"{index:03d}.png" for index in range(N_IMAGES)]
    for name, film in zip(names, films, strict=True):
        write_png(folder / name, film)
    write_rows(
        folder / "metadata.jsonl", [{"file_name": n, "text": CAPTIONS[i % 2]} for i, n in enumerate(names)]
    )


def small_session(base: Path, root: Path, size: int, batch: int) -> Session:
    """Our training, ready for its first step."""
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


def ours(session: Session, steps: int) -> float:
    """Optimizer steps a second of our loop, draws and all."""
    training = session.job.training

    def step(index: int) -> None:
        session.learner.step(
            index, session.data, sample_step(session.data.n, session.data.latent_shape, training, 1000, index)
        )

    return _rate(step, steps)


def bare(session: Session, steps: int) -> float:
    """Forward and backward passes a second on tensors that are ready: no draws, no clipping, no optimizer."""
    batch, parameters = session.job.training.batch_size, list(session.learner.parameters.values())
    noisy, noise = torch.randn(2, batch, *session.data.latent_shape)
    times, text = torch.randint(1000, (batch,)), session.data.text[torch.arange(batch) % 2].clone()

    def step(index: int) -> None:
        F.mse_loss(session.unet(noisy, times, text, return_dict=False)[0], noise).backward()
        for value in parameters:
            value.grad = None

    return _rate(step, steps)


def official(
    script: Path, base: Path, root: Path, size: int, batch: int, accumulation: int, steps: int
) -> float:
    """Optimizer steps a second of the script, told by the clock that a copy of it prints."""
    text, tick = script.read_text(), "print('TICK', time.perf_counter(), flush=True)"
    text, found = re.subn(r"^( +)(global_step \+= 1)$", rf"\1\2; import time; {tick}", text, flags=re.M)
    assert found == 1, "the script is not as it was"
    copy = root / "official.py"
    copy.write_text(
        re.sub(
            r"^( +)(text_encoder = CLIPTextModel)",
            r"\1tokenizer.model_max_length = 77\n\1\2",
            text,
            count=1,
            flags=re.M,
        )
    )
    options = {
        "train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_train_steps": WARM + steps,
        "seed": 0,
    }
    told, errors = run_script(copy, base, root, size, options)
    ticks = [float(line.split()[1]) for line in told if line.startswith("TICK")]
    assert len(ticks) == WARM + steps, errors
    return steps / (ticks[-1] - ticks[WARM - 1])


def run_script(
    copy: Path, base: Path, root: Path, size: int, options: dict[str, object]
) -> tuple[list[str], str]:
    """Run a copy of diffusers' script on the images in ``root``, in fp32 on the CPU: its lines, and the end of its errors."""
    common = {
        "pretrained_model_name_or_path": base,
        "train_data_dir": root / "images",
        "resolution": size,
        "rank": RANK,
        "output_dir": root / "official",
        "checkpointing_steps": 10**6,
        "report_to": "tensorboard",
    }
    command = [
        sys.executable,
        str(copy),
        *(f"--{name}={value}" for name, value in (common | options).items()),
    ]
    quiet = {"ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(root / "datasets")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet})
    return done.stdout.splitlines(), done.stderr[-3000:]


def _rate(step: Callable[[int], None], steps: int) -> float:
    for index in range(WARM):
        step(index)
    begun = time.perf_counter()
    for index in range(WARM, WARM + steps):
        step(index)
    return steps / (time.perf_counter() - begun)


def compare(
    name: str,
    base: Path,
    size: int,
    batch: int,
    accumulation: int,
    steps: int,
    rounds: int,
    script: Path | None,
) -> None:
    """Print steps a second and ratios at ``batch * accumulation`` images a step; ours takes them at once."""
    rates: dict[str, list[float]] = {"ours": [], "bare forward and backward": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "images", size)
        session = small_session(base, root, size, batch * accumulation)
        for _ in range(rounds):
            rates["ours"].append(ours(session, steps))
            rates["bare forward and backward"].append(bare(session, steps))
            if script:
                rates.setdefault("diffusers' script", []).append(
                    official(script, base, root, size, batch, accumulation, steps)
                )
    print(
        f"{name}, {size} px, batch {batch} x {accumulation}, median of {rounds} rounds of {steps} steps",
        flush=True,
    )
    for way, values in rates.items():
        ratio = statistics.median(np.divide(rates["ours"], values))
        print(
            f"  {way:26} {statistics.median(values):7.3f} steps/s{'' if way == 'ours' else f'; ours is {ratio:.2f} x that'}",
            flush=True,
        )


def main() -> None:
    """The embedded model, or Stable Diffusion 1.5's architecture, at the first prototype's settings and at another batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, help="diffusers' train_text_to_image_lora.py")
    parser.add_argument(
        "--sd15",
        action="store_true",
        help="Stable Diffusion 1.5's architecture with random weights, at 256 px",
    )
    asked = parser.parse_args()
    if asked.sd15:
        with tempfile.TemporaryDirectory() as folder:
            base = write_sd15(Path(folder) / "sd15")
            compare("SD 1.5's architecture", base, 256, 1, 4, steps=3, rounds=3, script=asked.official)
            compare("SD 1.5's architecture", base, 256, 1, 1, steps=8, rounds=3, script=asked.official)
    else:
        compare("embedded model", EMBEDDED / "sd", 64, 1, 4, steps=40, rounds=5, script=asked.official)
        compare("embedded model", EMBEDDED / "sd", 64, 16, 1, steps=40, rounds=5, script=asked.official)


if __name__ == "__main__":
    main()
