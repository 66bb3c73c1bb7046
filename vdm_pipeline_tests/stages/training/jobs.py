"""A small training with the embedded model: eight films, two captions."""

import csv
from pathlib import Path

import numpy as np

from vdm_pipeline.io.images import write_png
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.loop import train

BASE = EMBEDDED / "sd"
IMAGES = render(3, np.arange(8), np.arange(8) % 2 == 1, 64)
CAPTIONS = ["healthy lungs on a chest X-ray", "pneumonia on a chest X-ray"] * 4


def silent(line: str) -> None:
    """Drop a log line."""


def write_examples(folder: Path, images: np.ndarray = IMAGES, captions: list[str] = CAPTIONS) -> None:
    """An imagefolder."""
    names = [f"images/{index}.png" for index in range(len(images))]
    for name, image in zip(names, images, strict=True):
        write_png(folder / name, image)
    rows = [{"file_name": name, "text": text} for name, text in zip(names, captions, strict=True)]
    write_rows(folder / "metadata.jsonl", rows)


def make_job(
    profile: Profile, root: Path, *, training: dict | None = None, execution: dict | None = None
) -> Job:
    """A job in ``root``; ``training`` and ``execution`` change settings of these sections."""
    if not (root / "subset").exists():
        write_examples(root / "subset")
        write_examples(root / "held_out", IMAGES[:4, ::-1].copy(), CAPTIONS[:4])
    (root / "out").mkdir(exist_ok=True)
    quick = {"checkpoint_every": 2, "log_every": 2, "validate_every": 0}
    execution_values = {**profile.execution.model_dump(), **quick, **(execution or {})}
    return Job(
        base=BASE,
        subset=root / "subset",
        held_out=root / "held_out",
        cache=root / "cache",
        state=root / "state",
        out=root / "out",
        training=profile.training.model_validate({**profile.training.model_dump(), **(training or {})}),
        execution=profile.execution.model_validate(execution_values),
        metadata={"data_version": "d"},
    )


def trained(profile: Profile, root: Path, log: Log = silent, **sections: dict) -> Path:
    """Train in ``root`` and return the adapter's file."""
    root.mkdir(exist_ok=True)
    job = make_job(profile, root, **sections)
    train(job, log)
    return job.out / LORA_WEIGHTS


def log_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a ``training_log.csv``."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
