"""`lora_weights`: LoRA on the UNet of a Stable Diffusion folder, by a loop whose step is a function of (seed, step)."""

import csv
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import atomic_file
from vdm_pipeline.io.tensors import write_tensors
from vdm_pipeline.settings import Training
from vdm_pipeline.stages.checkpoint import load_checkpoint, save_checkpoint
from vdm_pipeline.stages.diffusion import encode_images, encode_prompts, load_part

WEIGHTS = "pytorch_lora_weights.safetensors"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Batch:
    """What one step reads: posterior moments ``[n, 4, h, w]`` of the images and the place of each one's caption ``[n]``."""

    mean: torch.Tensor
    deviation: torch.Tensor
    caption: torch.Tensor


@dataclass(frozen=True)
class Cache:
    """All of the training data as the UNet sees it, in memory: a step touches neither an image nor a text encoder."""

    mean: torch.Tensor
    deviation: torch.Tensor
    caption: torch.Tensor
    text: torch.Tensor

    @classmethod
    def build(
        cls, base: Path, images: NDArray[np.uint8], captions: list[str], size: int, batch: int, device: torch.device, dtype: torch.dtype
    ) -> "Cache":
        """Encode every image and every distinct caption once."""
        distinct = sorted(set(captions))
        mean, deviation = encode_images(load_part(base, "vae").to(device), images, size, batch)
        text = encode_prompts(base, distinct, device, dtype)
        return cls(mean, deviation, torch.tensor([distinct.index(caption) for caption in captions]), text)

    def batch(self, training: Training, step: int) -> tuple[Batch, torch.Generator]:
        """The images of a step and the generator of its noise; epochs are seeded permutations, so no image is left out."""
        rows = epoch_rows(len(self.caption), training.batch, training.seed, step)
        generator = torch.Generator().manual_seed(training.seed * 1_000_003 + step)
        mean, deviation = self.mean[rows], self.deviation[rows]
        if training.flip:
            mirrored = torch.rand(len(rows), generator=generator)[:, None, None, None] < 0.5
            mean, deviation = torch.where(mirrored, mean.flip(-1), mean), torch.where(mirrored, deviation.flip(-1), deviation)
        return Batch(mean, deviation, self.caption[rows]), generator


def epoch_rows(n: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Rows of the images at ``step``: the stream of seeded permutations of ``n``, cut into batches."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = {epoch: np.random.default_rng([seed, epoch]).permutation(n) for epoch in np.unique(places // n)}
    return np.array([epochs[place // n][place % n] for place in places])


def add_lora(unet: Any, training: Training) -> dict[str, torch.Tensor]:
    """Attach a fresh adapter in fp32, whatever the base's dtype; return its parameters by name.

    Raises `PipelineError` if no layer of the UNet has one of the wanted names.
    """
    from peft import LoraConfig

    torch.manual_seed(training.seed)
    config = LoraConfig(
        r=training.rank, lora_alpha=training.alpha, target_modules=list(training.target_modules), init_lora_weights="gaussian"
    )
    try:
        unet.add_adapter(config, "default")
    except ValueError as error:
        raise PipelineError(f"training.target_modules: {error}") from None
    parameters = {name: value for name, value in unet.named_parameters() if "lora_" in name}
    for value in parameters.values():
        value.data = value.data.float()
        value.requires_grad_(True)
    return parameters


def learning_rate(training: Training, step: int) -> float:
    """Linear warm-up, then a half cosine to a tenth of the peak."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    share = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * float(0.1 + 0.45 * (1 + np.cos(np.pi * share)))


def diffusion_loss(unet: Any, scheduler: Any, batch: Batch, text: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mean squared error of the predicted noise (or velocity); all randomness is drawn on the CPU from ``generator``."""
    latents = batch.mean + batch.deviation * torch.randn(batch.mean.shape, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, steps) if velocity else noise
    noisy = scheduler.add_noise(latents, noise, steps).to(unet.device, unet.dtype)
    condition = text[batch.caption.to(text.device)].to(unet.device, unet.dtype)
    predicted = unet(noisy, steps.to(unet.device), condition).sample
    return F.mse_loss(predicted.float(), target.to(unet.device))


def train_lora(
    *,
    base: Path,
    images: NDArray[np.uint8],
    captions: list[str],
    training: Training,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    note: Mapping[str, str],
    image_batch: int = 32,
    checkpoint_every: int = 100,
    log_every: int = 50,
    log: Log = print,
) -> None:
    """Train and write ``pytorch_lora_weights.safetensors`` and ``training_log.csv`` into ``folder``.

    A ``checkpoint.safetensors`` that an interrupted call left in ``folder`` is gone on from, with the same result as an
    uninterrupted one. Raises `PipelineError` when the loss is not finite; the last good checkpoint stays.
    """
    from accelerate import Accelerator

    cache = Cache.build(base, images, captions, training.resolution, image_batch, device, dtype)
    scheduler, unet = load_part(base, "scheduler"), load_part(base, "unet", dtype).to(device)
    parameters = add_lora(unet, training)
    unet.train()
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=training.learning_rate, weight_decay=training.weight_decay)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")  # the base has its dtype already, LoRA stays fp32
    unet, optimizer = accelerator.prepare(unet, optimizer)
    checkpoint, rows = folder / "checkpoint.safetensors", _Log(folder / "training_log.csv")
    start = 0
    if checkpoint.exists():
        start = load_checkpoint(checkpoint, weights=parameters, optimizers={"lora": optimizer})
        rows.cut(start)
        log(f"going on from step {start} of {training.steps}")
    total, since = torch.zeros((), device=device), time.perf_counter()
    for step in range(start, training.steps):
        rate = learning_rate(training, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch, generator = cache.batch(training, step)
        loss = diffusion_loss(unet, scheduler, batch, cache.text, generator)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(list(parameters.values()), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach()
        done = step + 1
        if done % log_every == 0 or done % checkpoint_every == 0 or done == training.steps:
            mean = float(total) / (done - rows.last)  # the one CPU-GPU sync, every few steps
            speed = training.batch * (done - rows.last) / (time.perf_counter() - since)
            if not np.isfinite(mean):
                raise PipelineError(
                    f"The training loss is not finite at step {done}; lower training.learning_rate ({training.learning_rate})."
                )
            rows.add(done, mean, rate, speed)
            log(f"step {done}/{training.steps} loss {mean:.4f} lr {rate:.2e} {speed:.1f} images/s")
            total.zero_()
            since = time.perf_counter()
        if done % checkpoint_every == 0 and done < training.steps:
            save_checkpoint(checkpoint, step=done, weights=parameters, optimizers={"lora": optimizer})
    save_adapter(accelerator.unwrap_model(unet), folder / WEIGHTS, note)


class _Log:
    """``training_log.csv``: step, mean loss since the row before, learning rate, images a second."""

    COLUMNS = ("step", "loss", "lr", "images_per_s")

    def __init__(self, path: Path) -> None:
        self.path, self.last = path, 0
        self.rows: list[tuple[str, ...]] = []

    def add(self, step: int, loss: float, rate: float, speed: float) -> None:
        self.rows.append((str(step), f"{loss:.6g}", f"{rate:.6g}", f"{speed:.4g}"))
        self.last = step
        self._write()

    def cut(self, step: int) -> None:
        """Forget what was logged after ``step``."""
        with self.path.open(newline="", encoding="utf-8") as file:
            self.rows = [tuple(row) for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
        self.last = step

    def _write(self) -> None:
        with atomic_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([self.COLUMNS, *self.rows])


def save_adapter(unet: Any, path: Path, note: Mapping[str, str]) -> None:
    """Write the adapter in diffusers' LoRA format, fp32, with ``note`` in the header."""
    tensors = {name: value.float() for name, value in lora_tensors(unet, "default").items()}
    write_tensors(path, tensors, {**lora_header(unet, "default"), **note})


def lora_tensors(unet: Any, adapter: str) -> dict[str, torch.Tensor]:
    """The adapter's matrices under the names that diffusers' ``load_lora_weights`` reads, on the CPU.

    These are peft's own names. diffusers' ``convert_state_dict_to_diffusers`` would rename those of attention layers alone,
    and a file with both kinds is then read in part.
    """
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(unet, adapter_name=adapter)
    return {f"unet.{name}": value.detach().cpu().contiguous() for name, value in tensors.items()}


def lora_header(unet: Any, adapter: str) -> dict[str, str]:
    """Safetensors header from which diffusers restores rank, alpha and targets; without it alpha is taken to be the rank."""
    config = unet.peft_config[adapter]
    facts = {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": sorted(config.target_modules)}
    return {"format": "pt", "lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in facts.items()})}
