"""The objects of one training process: encoded images, the UNet with its adapter, and the learner."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vdm_pipeline.io.images import read_folder
from vdm_pipeline.io.progress import Log
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.runtime.device import pick_dtype
from vdm_pipeline.stages.training.adapter import add_lora
from vdm_pipeline.stages.training.encoding import Encoded, Encoder
from vdm_pipeline.stages.training.job import Job
from vdm_pipeline.stages.training.learner import Learner
from vdm_pipeline.stages.training.mfu import peak_flops, step_flops
from vdm_pipeline.stages.training.objective import Objective


@dataclass(frozen=True)
class Session:
    """``unet`` is the bare model; the one in ``learner`` may be wrapped. ``held_out`` is None without images.

    ``step_flops`` are the FLOPs of one image's forward and backward pass, ``peak_flops`` the measured FLOP/s
    of all processes.
    """

    job: Job
    accelerator: Any
    log: Log
    device: torch.device
    dtype: torch.dtype
    data: Encoded
    held_out: Encoded | None
    scheduler: Any
    unet: Any
    objective: Objective
    learner: Learner
    step_flops: float
    peak_flops: float


def open_session(job: Job, accelerator: Any, log: Log) -> Session:
    """Encode the images or read their latents, load the UNet, attach the adapter."""
    training, execution = job.training, job.execution
    device, dtype = accelerator.device, pick_dtype(accelerator.device)
    encoder = Encoder(job.base, job.cache, training.resolution, device, dtype)
    with accelerator.main_process_first():  # the others read the cache that it fills
        data = _encode_folder(encoder, job.subset, flip=training.random_flip, log=log)
        held_out = None
        if read_rows(job.held_out / "metadata.jsonl"):
            held_out = _encode_folder(encoder, job.held_out, flip=False, log=log)
    scheduler = load_component(job.base, "scheduler")
    unet = load_component(job.base, "unet", dtype).to(device, memory_format=torch.channels_last)
    if execution.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    parameters = add_lora(unet, training)
    unet.train()
    objective = Objective(scheduler, training, device)
    wrapped = accelerator.prepare(torch.compile(unet) if execution.compile else unet)
    micro = _micro_batch_size(job, accelerator.num_processes)
    return Session(
        job=job,
        accelerator=accelerator,
        log=log,
        device=device,
        dtype=dtype,
        data=data,
        held_out=held_out,
        scheduler=scheduler,
        unet=unet,
        objective=objective,
        learner=Learner(wrapped, parameters, objective, training, micro, accelerator, log),
        step_flops=step_flops(unet.config, training, data.latent_shape, tuple(data.text.shape[1:])),
        peak_flops=peak_flops(device, dtype) * accelerator.num_processes,
    )


def _encode_folder(encoder: Encoder, folder: Path, *, flip: bool, log: Log) -> Encoded:
    """Encode an imagefolder."""
    rows = read_rows(folder / "metadata.jsonl", ("file_name", "text"))
    return encoder.encode(read_folder(folder, rows), [row["text"] for row in rows], flip=flip, log=log)


def _micro_batch_size(job: Job, num_processes: int) -> int:
    """Images per forward pass: as configured, at most the process's share of the batch."""
    share = -(-job.training.batch_size // num_processes)  # rounded up
    return min(job.execution.micro_batch_size or share, share)
