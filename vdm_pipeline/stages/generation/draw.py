"""Groups of shots become PNGs, each its own record; an image that is there and whole is not made again."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import sync
from vdm_pipeline.io.images import write_png
from vdm_pipeline.stages.data.grey import chroma, to_grey
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.pipeline import Sampler
from vdm_pipeline.stages.generation.plan import SampleSpec
from vdm_pipeline.stages.models.diffusion import encode_prompts

Progress = Callable[[int, int], None]
Log = Callable[[str], None]
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
WRITERS = 4
"""Threads that wait for the disk; more would take the interpreter from the one that draws."""


class ImageGenerator:
    """Draws groups of a job's shots on one device; the models are loaded when the first image is missing."""

    def __init__(self, job: Job, device: torch.device, dtype: torch.dtype, log: Log) -> None:
        """Load nothing yet."""
        self.job, self.device, self.dtype, self.log = job, device, dtype, log

    @cached_property
    def _texts(self) -> "Texts":
        return Texts(self.job, self.device, self.dtype)

    @cached_property
    def _sampler(self) -> Sampler:
        job = self.job
        return Sampler(job.arm, self.device, self.dtype, job.batch, self.log, compiled=job.execution.compile)

    def generate(self, groups: Sequence[tuple[SampleSpec, ...]], progress: Progress) -> None:
        """Draw these groups, as far as an image of them is missing; progress counts their images.

        A group is drawn whole, padded to the full batch, and only its missing images are written: the same shape gives the
        same bits. Raises `PipelineError` for images that are not finite, or where memory does not hold one.
        """
        job = self.job
        todo = [
            (group, missing)
            for group in groups
            if (missing := [shot for shot in group if made(job, shot) is None])
        ]
        total = sum(map(len, groups))
        done = total - sum(len(missing) for _, missing in todo)
        with ThreadPoolExecutor(WRITERS) as writers:  # a group is written while the next one is drawn
            writing: list[Future[None]] = []
            for group, missing in todo:
                padded = group + group[-1:] * (job.batch - len(group))
                texts = self._texts.of(
                    padded
                )  # first, so that the text encoder is gone before the UNet comes
                floats = self._sampler.draw(texts, [shot.seed for shot in padded])
                images = to_uint8(floats[: len(group)], group)
                done = _settle(job, writing, done, total, progress)
                spread, saved = chroma(images), to_grey(images) if job.arm.grey else images
                rows = {shot: row for row, shot in enumerate(group)}
                writing = [
                    writers.submit(_write, job, shot, saved[rows[shot]], float(spread[rows[shot]]))
                    for shot in missing
                ]
            _settle(job, writing, done, total, progress)


def _settle(job: Job, writing: Sequence[Future[None]], done: int, total: int, progress: Progress) -> int:
    """Wait for images to be on disk, and tell of them; how many are done."""
    for image in writing:
        image.result()
    if writing:
        sync(job.folder)
        progress(done + len(writing), total)
    return done + len(writing)


class Texts:
    """The distinct prompts of a job, each encoded once."""

    def __init__(self, job: Job, device: torch.device, dtype: torch.dtype) -> None:
        """Encode, and drop the text encoder."""
        self.guided = job.arm.guidance_scale != 1
        self.prompts = ["", *sorted({shot.prompt for shot in job.samples})]
        self.encoded = encode_prompts(job.arm.base, self.prompts, device, dtype)

    def of(self, samples: Sequence[SampleSpec]) -> torch.Tensor:
        """As `Sampler.draw` wants them, ``[n, 77, d]`` or with guidance ``[2n, 77, d]``."""
        rows = [self.prompts.index(shot.prompt) for shot in samples]
        return self.encoded[[0] * len(rows) * self.guided + rows]


def made(job: Job, shot: SampleSpec) -> dict[str, Any] | None:
    """The record of the shot's image, or None if its PNG is missing, damaged, or was made in another way."""
    try:
        png = (job.folder / shot.file_name).read_bytes()
        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image)
            record = json.loads(image.text["parameters"])  # type: ignore[attr-defined]
    except (
        OSError,
        Image.DecompressionBombError,
        UnidentifiedImageError,
        SyntaxError,
        ValueError,
        KeyError,
        AttributeError,
    ):
        return None
    if not png.endswith(PNG_END) or not isinstance(record, dict):
        return None
    spread = record.get("chroma")
    if not isinstance(spread, float) or not math.isfinite(spread):
        return None
    return record if record == _record(job, shot, pixels, spread) else None


def _record(job: Job, shot: SampleSpec, pixels: NDArray[np.uint8], spread: float) -> dict[str, Any]:
    """Of an image as it is saved; ``spread`` is its chroma before it was made grey."""
    return job.arm.record(shot) | {"pixels_sha256": _digest(pixels), "chroma": spread}


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _write(job: Job, shot: SampleSpec, image: NDArray[np.uint8], spread: float) -> None:
    record = _record(job, shot, image, round(spread, 4))
    write_png(
        job.folder / shot.file_name,
        image,
        {"parameters": json.dumps(record, ensure_ascii=False)},
        sync_folder=False,
    )


def to_uint8(images: NDArray[np.float32], samples: Sequence[SampleSpec]) -> NDArray[np.uint8]:
    """Floats ``[n, h, w, 3]`` in [0, 1] to uint8; raises `PipelineError` that counts the images that are not finite."""
    broken = [shot for shot, image in zip(samples, images, strict=True) if not np.isfinite(image).all()]
    if broken:
        raise PipelineError(
            f"{len(broken)} of {len(samples)} images of a batch, the first of them {broken[0].file_name} (seed {broken[0].seed}), "
            "are not finite: an adapter or its weight is broken; lower the weight, or train the adapter again."
        )
    return np.round(images * 255).astype(np.uint8)
