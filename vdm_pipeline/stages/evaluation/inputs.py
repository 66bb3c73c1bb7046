"""The files that an evaluation reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import read_folder
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.evaluation.arms import LORA
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer, MeasuredImages
from vdm_pipeline.stages.evaluation.real_images import class_indices

if TYPE_CHECKING:
    import pandas as pd

METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class EvaluationInputs:
    """The archive and its faults, the training subset, and the folders of the arms.

    ``arms`` holds ``baseline`` and ``lora``, and extra arms by name. Images are compared at ``resolution``.
    """

    archive: Archive
    faults: "pd.DataFrame"
    subset: Path
    arms: Mapping[str, Path]
    class_names: Sequence[str]
    resolution: int


@dataclass(frozen=True)
class Plan:
    """The images that every arm has: their file names, and the number of images of each class."""

    file_names: Sequence[str]
    class_counts: Sequence[int]

    def __len__(self) -> int:
        return len(self.file_names)


def read_plan(inputs: EvaluationInputs) -> Plan:
    """The plan of the arms, from the metadata of the arm ``lora``."""
    rows = read_rows(inputs.arms[LORA] / METADATA, ("file_name", "label"))
    counts = [sum(row["label"] == name for row in rows) for name in inputs.class_names]
    return Plan([row["file_name"] for row in rows], counts)


def read_arm(folder: Path, class_names: Sequence[str], measurer: ImageMeasurer) -> MeasuredImages:
    """Measure the images of an arm's folder; raises `PipelineError` if its metadata are damaged."""
    rows = read_rows(folder / METADATA, ("file_name", "label"))
    if not all(isinstance(row.get("chroma"), int | float) for row in rows):
        raise PipelineError(
            f"{folder / METADATA} has a row without a number in 'chroma'; materialize its asset again."
        )
    labels = class_indices(rows, "label", class_names, folder)
    return measurer.measure(read_folder(folder, rows), labels, np.array([row["chroma"] for row in rows]))
