"""What the large profile takes and gives on a GPU, and on smaller ones: ``python -m vdm_pipeline_tests.rehearsal.cards FOLDER``.

FOLDER is that of the rehearsal. Labels, draws and trains at the profile's own sizes and batches, with random weights, in a process of
its own for each row: on the whole GPU, compiled, in fp16, and with no more memory than cards of 4 to 24 GB leave to torch, where only
memory counts, as a smaller card is slower too. A row with fewer images at a time than were asked for did not hold them, and went on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vdm_pipeline.incremental.project import Project
from vdm_pipeline.incremental.store import Store
from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.generation.image_generator import ImageGenerator
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.plan import main_arm, plan
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.clip_conversion import TEXT
from vdm_pipeline.stages.runtime.device import (
    device_name,
    device_peak_mb,
    pick_device,
    pick_dtype,
    reset_device_peak,
)
from vdm_pipeline.stages.training.job import Job as TrainingJob
from vdm_pipeline.stages.training.loop import train
from vdm_pipeline.stages.training.mfu import peak_flops

CONTEXT_GB = 0.6
"""What CUDA itself takes of a card."""
ROWS: list[dict[str, Any]] = [{}, {"compile": True}, {"half": True}, *({"card": gb} for gb in (4, 8, 16, 24))]
TRAINED = 40


def model(folder: Path, name: str) -> Path:
    """The repository that the rehearsal wrote."""
    return folder / "repositories" / name.replace("/", "--")


def timed(device: torch.device, work: Callable[[], int]) -> dict[str, float]:
    """Images a second of ``work``, which counts them, and the GPU's peak, GB."""
    begun = time.perf_counter()
    images = work()
    rate = images / (time.perf_counter() - begun)
    return {"images_per_s": round(rate, 2), "peak_gb": round((device_peak_mb(device) or 0) / 1024, 2)}


def label(folder: Path, profile: Profile, device: torch.device, images: int) -> dict[str, Any]:
    """The labeller's image tower over random pictures."""
    place = next((folder / "hub/assets").rglob(f"{TEXT}/config.json")).parents[1]
    labeller, pictures = (
        ZeroShot(place, device),
        np.random.default_rng(0).integers(0, 256, (images, 224, 224), np.uint8),
    )
    batch = profile.execution.label_batch_size
    labeller.embed(pictures[:batch], batch)
    reset_device_peak(device)
    return timed(device, lambda: len(labeller.embed(pictures, batch)))


def sample_step(
    folder: Path, profile: Profile, device: torch.device, dtype: torch.dtype, images: int
) -> dict[str, Any]:
    """The baseline's arm, PNGs and all; the first group, which waits for the models, does not count."""
    generation = profile.generation.model_copy(update={"per_class": images // 2})
    arm = main_arm(
        profile, model(folder, profile.training.base.id), model(folder, profile.generation.lcm_lora.id), None
    )
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as out:
        job = Job(
            arm=arm,
            samples=tuple(plan(profile.classes, generation)),
            folder=Path(out),
            execution=profile.execution,
        )
        generator, groups = ImageGenerator(job, device, dtype, lines.append), job.groups()
        generator.generate(groups[:1], lambda *counts: None)
        reset_device_peak(device)

        def work() -> int:
            generator.generate(groups[1:], lambda *counts: None)
            return sum(map(len, groups[1:]))

        return timed(device, work) | {
            "at_a_time": generator._sampler.adaptive_batch.batch_size,
            "said": lines,
        }


def learn(folder: Path, profile: Profile, root: Path, device: torch.device) -> dict[str, Any]:
    """Training steps, from their log's last row; speed without what came before the last quarter."""
    subset = Project(profile, Store(root)).paths("lora_subset")
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as out:
        job = TrainingJob(
            base=model(folder, profile.training.base.id),
            subset=subset["folder"],
            held_out=subset["held_out"],
            cache=Path(out) / "cache",
            state=Path(out) / "state",
            out=Path(out) / "lora",
            training=profile.training.model_copy(
                update={"max_train_steps": TRAINED, "batch_size": load_profile("sd15").training.batch_size}
            ),
            execution=profile.execution.model_copy(
                update={"log_every": TRAINED // 4, "checkpoint_every": TRAINED}
            ),
            metadata={},
        )
        job.out.mkdir()
        reset_device_peak(device)
        train(job, lines.append)
        last = (job.out / "training_log.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    said = [line for line in lines if "memory" in line and line.startswith("out")]
    named = {"images_per_s": "images_per_s", "share": "mfu"}
    return {key: round(float(row[name]), 3) for key, name in named.items()} | {
        "peak_gb": round((device_peak_mb(device) or 0) / 1024, 2),
        "said": said,
    }


def one(folder: Path, asked: dict[str, Any], images: int) -> dict[str, Any]:
    """One row."""
    root = folder / "project"
    profile, device = load_profile(str(root / "rehearsal.toml")), pick_device("auto")
    compiled = profile.execution.model_copy(update={"compile": asked.get("compile", False)})
    profile = profile.model_copy(update={"execution": compiled})
    dtype = torch.float16 if asked.get("half") else pick_dtype(device)
    if "card" in asked:
        total = torch.cuda.get_device_properties(device).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction((asked["card"] - CONTEXT_GB) / total)
    found: dict[str, Any] = {"asked": asked, "device": device_name(device), "dtype": str(dtype)}
    found["matmul_tflops"] = 0 if "card" in asked else round(peak_flops(device, dtype) / 1e12, 1)
    found["draw"] = sample_step(folder, profile, device, dtype, images)
    torch.cuda.empty_cache()
    if not asked.get("half"):
        found["learn"] = learn(folder, profile, root, device)
    torch.cuda.empty_cache()
    if not asked.get("compile") and not asked.get("half"):
        found["label"] = label(folder, profile, device, 16 * images)
    return found


def spawn(folder: Path, asked: dict[str, Any], images: int) -> None:
    """One row, in a process of its own, printed as a line of JSON, or the end of what it said when it failed."""
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        str(folder),
        "--images",
        str(images),
        "--row",
        json.dumps(asked),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    print(
        done.stdout.strip() if done.returncode == 0 else f"{asked} failed: {done.stderr[-1500:]}", flush=True
    )


def main() -> None:
    """The rows that are timed one after the other, then those of the small cards together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--images", type=int, default=288, help="images that are drawn; 16 times as many are labelled"
    )
    parser.add_argument("--row", type=json.loads, help="this row alone, in this process")
    asked = parser.parse_args()
    if asked.row is not None:
        print(json.dumps(one(asked.folder.resolve(), asked.row, asked.images)))
        return
    for row in ROWS:
        if "card" not in row:
            spawn(asked.folder, row, asked.images)
    with ThreadPoolExecutor() as cards:
        list(
            cards.map(
                lambda row: spawn(asked.folder, row, min(asked.images, 96)),
                [row for row in ROWS if "card" in row],
            )
        )


if __name__ == "__main__":
    main()
