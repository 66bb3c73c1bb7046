"""The PNG of a sample with its record inside: written, read back and verified."""

import hashlib
import io
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vdm_pipeline.io.images import write_png
from vdm_pipeline.stages.generation.job import Job
from vdm_pipeline.stages.generation.plan import SampleSpec

PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
UNREADABLE = (
    OSError,
    Image.DecompressionBombError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    KeyError,
    AttributeError,
)
"""What Pillow and the parser of the record raise on missing, damaged or foreign files."""


def read_record(job: Job, sample: SampleSpec) -> dict[str, Any] | None:
    """The record in the sample's PNG; None if the PNG is missing or damaged, or not from this job's arm."""
    try:
        png = (job.folder / sample.file_name).read_bytes()
        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image)
            record = json.loads(image.text["parameters"])  # type: ignore[attr-defined]
    except UNREADABLE:
        return None
    if not png.endswith(PNG_END) or not isinstance(record, dict):
        return None
    chroma = record.get("chroma")
    if not isinstance(chroma, float) or not math.isfinite(chroma):
        return None
    return record if record == _record(job, sample, pixels, chroma) else None


def write_image(job: Job, sample: SampleSpec, image: NDArray[np.uint8], chroma: float) -> None:
    """Write the sample's PNG; ``chroma`` is that of the image before it was converted to grey."""
    record = _record(job, sample, image, round(chroma, 4))
    text = {"parameters": json.dumps(record, ensure_ascii=False)}
    write_png(job.folder / sample.file_name, image, text, sync_folder=False)


def _record(job: Job, sample: SampleSpec, pixels: NDArray[np.uint8], chroma: float) -> dict[str, Any]:
    return job.arm.record(sample) | {"pixels_sha256": _pixels_sha256(pixels), "chroma": chroma}


def _pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
