"""Sections that change no result: automation and execution. They are part of no fingerprint."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vdm_pipeline.settings.base import Count, FolderUrl, Section, Text


def _ray_address(address: str) -> str:
    match = re.fullmatch(r"(ray://)?[A-Za-z0-9._-]+:(?P<port>\d{1,5})", address, re.ASCII)
    if address != "auto" and (not match or int(match["port"]) not in range(1, 2**16)):
        raise ValueError(
            "must be auto, host:port or ray://host:port; leave it out for a cluster on this machine only"
        )
    return address


def _gpu_share(gpus: float) -> float:
    if gpus and not 0.01 <= gpus <= 1 and gpus not in range(2, 65):  # Ray has no fractions above one
        raise ValueError("must be 0, a fraction of one GPU such as 0.5, or a whole number")
    return gpus


RayAddress = Annotated[str, AfterValidator(_ray_address)]
GpuShare = Annotated[float, AfterValidator(_gpu_share)]
"""GPUs of a Ray worker."""


class Automation(Section):
    """When the daemon starts work."""

    relabel_cron: Text = Field(
        "0 3 * * 1",
        description="when the re-labelling schedule ticks: five cron fields or a name such as @daily, UTC",
    )


class Cluster(Section):
    """Workers on a Ray cluster. Its machines share the project folder, the models and the packages."""

    address: RayAddress | None = Field(
        None,
        description="auto, host:port or ray://host:port; leave it out for a cluster on this machine only",
    )
    workers: Count = Field(2, description="workers, each with the models loaded")
    cpus: Annotated[float, Field(ge=0.01, le=1024)] = Field(1.0, description="cores, and threads, per worker")
    gpus: GpuShare = Field(
        0.0, description="GPUs per worker: one, or a fraction if several workers fit one GPU"
    )


class Execution(Section):
    """How the work is done. No key changes a result beyond float tolerance."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: CUDA if there is one, else Apple's MPS, else the CPU"
    )
    label_batch_size: Count = Field(64, description="images per forward pass of the labeller")
    generation_batch_size: Count = Field(32, description="images generated at a time")
    checkpoint_every: Count = Field(100, description="training steps between checkpoints")
    log_every: Count = Field(50, description="training steps between log lines")
    validate_every: Annotated[int, Field(ge=0)] = Field(
        100, description="training steps between validation losses; 0: only at the end"
    )
    sample_every: Annotated[int, Field(ge=0)] = Field(
        0, description="training steps between sample sheets; 0: only at the end"
    )
    micro_batch_size: Count | None = Field(
        None,
        description="training images per forward pass; gradients of a step's micro-batches are accumulated",
    )
    gradient_checkpointing: bool = Field(False, description="training: less memory for a third more work")
    compile: bool = Field(
        False, description="torch.compile the UNet; minutes at the start, faster steps on CUDA"
    )
    num_processes: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="processes that train and generate, started by accelerate; one per GPU"
    )
    engine: Literal["local", "ray"] = Field(
        "local",
        description="where images are labelled and generated: local (this machine, `num_processes`) "
        "or ray (the workers of `ray`)",
    )
    ray: Cluster = Cluster()
    archive_mirror: FolderUrl | None = Field(
        None,
        description="download <this>/<name>.npz instead of MedMNIST's own file; it must have the same MD5",
    )
    tracker: Literal["none", "tensorboard"] = Field(
        "none", description="where training figures go besides training_log.csv"
    )
