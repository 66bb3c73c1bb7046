"""Speed and memory of the large profile on GPUs: ``python -m vdm_pipeline_tests.rehearsal.cards FOLDER``.

FOLDER is that of the rehearsal. Labels, generates and trains with the profile's own sizes and batches and
with random weights. Each row of the result has its own process: the whole GPU, compiled, in fp16, and with
only the memory that GPUs of 4 to 24 GB leave to torch. Of the latter only the memory counts, because a
smaller GPU is slower, too. If a batch did not fit, it was halved, and the row has the smaller batch and the
log line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
"""Memory of a GPU that CUDA itself uses."""
ROWS: list[dict[str, Any]] = [{}, {"compile": True}, {"half": True}, *({"card": gb} for gb in (4, 8, 16, 24))]
TRAINING_STEPS = 40


@dataclass(frozen=True)
class Rehearsal:
    """The rehearsal's folder and profile, and where they run."""

    folder: Path
    profile: Profile
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def open(cls, folder: Path, row: dict[str, Any]) -> "Rehearsal":
        """The rehearsal with the settings of a row."""
        profile, device = load_profile(str(folder / "project/rehearsal.toml")), pick_device("auto")
        execution = profile.execution.model_copy(update={"compile": row.get("compile", False)})
        dtype = torch.float16 if row.get("half") else pick_dtype(device)
        return cls(folder, profile.model_copy(update={"execution": execution}), device, dtype)

    def model(self, name: str) -> Path:
        """The repository that the rehearsal wrote."""
        return self.folder / "repositories" / name.replace("/", "--")

    def peak_gb(self) -> float:
        """Peak GPU memory."""
        return round((device_peak_mb(self.device) or 0) / 1024, 2)

    def timed(self, work: Callable[[], int]) -> dict[str, Any]:
        """Images per second of ``work``, which returns their number, and the peak memory."""
        reset_device_peak(self.device)
        start = time.perf_counter()
        images = work()
        rate = images / (time.perf_counter() - start)
        return {"images_per_s": round(rate, 2), "peak_gb": self.peak_gb()}


def label(rehearsal: Rehearsal, images: int) -> dict[str, Any]:
    """Embed random images with the labeller's image tower."""
    path = next((rehearsal.folder / "hub/assets").rglob(f"{TEXT}/config.json")).parents[1]
    labeller = ZeroShot(path, rehearsal.device)
    noise = np.random.default_rng(0).integers(0, 256, (images, 224, 224), np.uint8)
    batch = rehearsal.profile.execution.label_batch_size
    labeller.embed(noise[:batch], batch)
    return rehearsal.timed(lambda: len(labeller.embed(noise, batch)))


def generate(rehearsal: Rehearsal, images: int) -> dict[str, Any]:
    """Generate the baseline with its PNGs. The first batch loads the models and does not count."""
    profile = rehearsal.profile
    generation = profile.generation.model_copy(update={"per_class": images // 2})
    base, lcm_lora = (rehearsal.model(pin.id) for pin in (profile.training.base, profile.generation.lcm_lora))
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as out:
        job = Job(
            arm=main_arm(profile, base, lcm_lora, None),
            samples=tuple(plan(profile.classes, generation)),
            folder=Path(out),
            execution=profile.execution,
        )
        generator = ImageGenerator(job, rehearsal.device, rehearsal.dtype, lines.append)
        first, *groups = job.groups()
        generator.generate([first], lambda *counts: None)

        def work() -> int:
            generator.generate(groups, lambda *counts: None)
            return sum(map(len, groups))

        result = rehearsal.timed(work)
    return result | {"batch_size": generator._sampler.adaptive_batch.batch_size, "log": lines}


def training_job(rehearsal: Rehearsal, out: Path) -> TrainingJob:
    """A training on the rehearsal's subset with the batch size of sd15."""
    profile = rehearsal.profile
    subset = Project(profile, Store(rehearsal.folder / "project")).paths("lora_subset")
    batch_size = load_profile("sd15").training.batch_size
    training = {"max_train_steps": TRAINING_STEPS, "batch_size": batch_size}
    execution = {"log_every": TRAINING_STEPS // 4, "checkpoint_every": TRAINING_STEPS}
    return TrainingJob(
        base=rehearsal.model(profile.training.base.id),
        subset=subset["folder"],
        held_out=subset["held_out"],
        cache=out / "cache",
        state=out / "state",
        out=out / "lora",
        training=profile.training.model_copy(update=training),
        execution=profile.execution.model_copy(update=execution),
        metadata={},
    )


def learn(rehearsal: Rehearsal) -> dict[str, Any]:
    """Train, and return the speed in the last row of the log, which is that of the last quarter."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as out:
        job = training_job(rehearsal, Path(out))
        job.out.mkdir()
        reset_device_peak(rehearsal.device)
        train(job, lines.append)
        head, *_, last = (job.out / "training_log.csv").read_text().splitlines()
    row = dict(zip(head.split(","), last.split(","), strict=True))
    figures = {key: round(float(row[key]), 3) for key in ("images_per_s", "mfu")}
    log = [line for line in lines if line.startswith("out of memory")]
    return {**figures, "peak_gb": rehearsal.peak_gb(), "log": log}


def run_here(folder: Path, row: dict[str, Any], images: int) -> dict[str, Any]:
    """Measure one row in this process."""
    rehearsal = Rehearsal.open(folder, row)
    device, dtype = rehearsal.device, rehearsal.dtype
    result: dict[str, Any] = {"row": row, "device": device_name(device), "dtype": str(dtype)}
    if "card" in row:
        total = torch.cuda.get_device_properties(device).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction((row["card"] - CONTEXT_GB) / total)
    else:
        result["matmul_tflops"] = round(peak_flops(device, dtype) / 1e12, 1)
    result["generate"] = generate(rehearsal, images)
    torch.cuda.empty_cache()
    if not row.get("half"):
        result["train"] = learn(rehearsal)
    torch.cuda.empty_cache()
    if not row.get("compile") and not row.get("half"):
        result["label"] = label(rehearsal, 16 * images)
    return result


def run_in_process(folder: Path, row: dict[str, Any], images: int) -> None:
    """Measure one row in a new process; prints a line of JSON, or the end of the errors."""
    options = ["--images", str(images), "--row", json.dumps(row)]
    command = [sys.executable, "-m", __spec__.name, str(folder), *options]
    result = subprocess.run(command, capture_output=True, text=True)
    failed = f"{row} failed: {result.stderr[-1500:]}"
    print(result.stdout.strip() if result.returncode == 0 else failed, flush=True)


def main() -> None:
    """Measure the timed rows one after the other, then those of the small GPUs in parallel."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    help_images = "images to generate; 16 times as many are labelled"
    parser.add_argument("--images", type=int, default=288, help=help_images)
    parser.add_argument("--row", type=json.loads, help="only this row, in this process")
    arguments = parser.parse_args()
    folder, images = arguments.folder.resolve(), arguments.images
    if arguments.row is not None:
        print(json.dumps(run_here(folder, arguments.row, images)))
        return
    for row in ROWS:
        if "card" not in row:
            run_in_process(folder, row, images)
    with ThreadPoolExecutor() as pool:
        small = [row for row in ROWS if "card" in row]
        list(pool.map(lambda row: run_in_process(folder, row, min(images, 96)), small))


if __name__ == "__main__":
    main()
