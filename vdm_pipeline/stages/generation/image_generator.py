"""Generates the missing images of a job and writes them as PNGs; existing valid images are kept."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.atomic import sync
from vdm_pipeline.io.progress import Log, Progress
from vdm_pipeline.stages.data.grey import chroma, to_grey
from vdm_pipeline.stages.generation.image_records import read_record, write_image
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.pipeline import Sampler
from vdm_pipeline.stages.generation.plan import SampleSpec
from vdm_pipeline.stages.models.diffusion import encode_prompts

WRITER_THREADS = 4
"""They wait for the disk. More threads would slow down the one that samples."""


class ImageGenerator:
    """Generates groups of a job's samples on one device; loads the models only if an image is missing."""

    def __init__(self, job: Job, device: torch.device, dtype: torch.dtype, log: Log) -> None:
        """Load nothing yet."""
        self.job, self.device, self.dtype, self.log = job, device, dtype, log

    @cached_property
    def _prompt_embeddings(self) -> "PromptEmbeddings":
        return PromptEmbeddings(self.job, self.device, self.dtype)

    @cached_property
    def _sampler(self) -> Sampler:
        job = self.job
        return Sampler(
            job.arm, self.device, self.dtype, job.batch_size, self.log, compiled=job.execution.compile
        )

    def generate(self, groups: Sequence[tuple[SampleSpec, ...]], progress: Progress) -> None:
        """Generate the missing images of these groups; ``progress`` counts images.

        A group is sampled as a whole, padded to the full batch, because the same shape gives the same bits;
        only missing images are written. Raises `PipelineError` if images are not finite, or if not even one
        fits memory.
        """
        incomplete = [(group, missing) for group in groups if (missing := self._missing(group))]
        total = sum(map(len, groups))
        done = total - sum(len(missing) for _, missing in incomplete)
        # A group is written while the next one is sampled.
        with ThreadPoolExecutor(WRITER_THREADS) as writers:
            writes: list[Future[None]] = []
            for group, missing in incomplete:
                images = self._sample(group)
                done = self._finish(writes, done, total, progress)
                writes = self._start_writes(writers, group, missing, images)
            self._finish(writes, done, total, progress)

    def _missing(self, group: tuple[SampleSpec, ...]) -> list[SampleSpec]:
        return [sample for sample in group if read_record(self.job, sample) is None]

    def _sample(self, group: tuple[SampleSpec, ...]) -> NDArray[np.uint8]:
        """All images of a group, uint8 ``[n, h, w, 3]``."""
        padded = group + group[-1:] * (self.job.batch_size - len(group))
        # First, so that the text encoder is freed before the UNet is loaded.
        prompt_embeds = self._prompt_embeddings.for_samples(padded)
        floats = self._sampler.sample(prompt_embeds, [sample.seed for sample in padded])
        return to_uint8(floats[: len(group)], group)

    def _start_writes(
        self,
        writers: ThreadPoolExecutor,
        group: tuple[SampleSpec, ...],
        missing: list[SampleSpec],
        images: NDArray[np.uint8],
    ) -> list[Future[None]]:
        chromas = chroma(images)
        saved = to_grey(images) if self.job.arm.grey else images
        rows = {sample: row for row, sample in enumerate(group)}
        return [
            writers.submit(write_image, self.job, sample, saved[rows[sample]], float(chromas[rows[sample]]))
            for sample in missing
        ]

    def _finish(self, writes: Sequence[Future[None]], done: int, total: int, progress: Progress) -> int:
        """Wait until these images are on disk, and report them. Returns how many images are done."""
        for write in writes:
            write.result()
        if writes:
            sync(self.job.folder)
            progress(done + len(writes), total)
        return done + len(writes)


class PromptEmbeddings:
    """The distinct prompts of a job, each encoded once."""

    def __init__(self, job: Job, device: torch.device, dtype: torch.dtype) -> None:
        """Encode all prompts, then free the text encoder."""
        self.guided = job.arm.guidance_scale != 1
        self.prompts = ["", *sorted({sample.prompt for sample in job.samples})]
        self.encoded = encode_prompts(job.arm.base, self.prompts, device, dtype)

    def for_samples(self, samples: Sequence[SampleSpec]) -> torch.Tensor:
        """Input of `Sampler.sample`: ``[n, 77, d]``; with guidance ``[2n, 77, d]``, empty prompts first."""
        rows = [self.prompts.index(sample.prompt) for sample in samples]
        if self.guided:
            rows = [0] * len(rows) + rows
        return self.encoded[rows]


def to_uint8(images: NDArray[np.float32], samples: Sequence[SampleSpec]) -> NDArray[np.uint8]:
    """Floats ``[n, h, w, 3]`` in [0, 1] to uint8; raises `PipelineError` if images are not finite."""
    broken = [sample for sample, image in zip(samples, images, strict=True) if not np.isfinite(image).all()]
    if broken:
        raise PipelineError(
            f"{len(broken)} of {len(samples)} images of a batch are not finite, first {broken[0].file_name} "
            f"(seed {broken[0].seed}): an adapter or its weight is broken; "
            "lower the weight, or train the adapter again."
        )
    return np.round(images * 255).astype(np.uint8)
