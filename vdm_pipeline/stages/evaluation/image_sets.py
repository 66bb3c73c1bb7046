"""The image sets of an evaluation by purpose: read, then measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from vdm_pipeline.stages.evaluation.inputs import EvaluationInputs, Plan, read_arm
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer, MeasuredImages
from vdm_pipeline.stages.evaluation.real_images import (
    Labels,
    RealImages,
    control_images,
    reference_images,
    subset_images,
    unseen_images,
)


@dataclass(frozen=True)
class RealSets:
    """The real images.

    - ``subset``: trained the adapter; ``caption_labels`` are the classes of its captions.
    - ``reference``: from val; the arms are compared with it.
    - ``control``: from train outside the subset, as many as an arm has; the row ``real``.
    - ``unseen``: test.
    """

    subset: RealImages
    caption_labels: Labels
    reference: RealImages
    control: RealImages
    unseen: RealImages


@dataclass(frozen=True)
class MeasuredSets:
    """The real images of `RealSets` and the images of each arm, measured."""

    subset: MeasuredImages
    reference: MeasuredImages
    control: MeasuredImages
    unseen: MeasuredImages
    arms: Mapping[str, MeasuredImages]


def read_real_sets(inputs: EvaluationInputs, plan: Plan, seed: int) -> RealSets:
    """Read the subset and select the other sets from the archive."""
    archive, faults, size = inputs.archive, inputs.faults, inputs.resolution
    subset, caption_labels = subset_images(inputs.subset, inputs.class_names, size)
    return RealSets(
        subset=subset,
        caption_labels=caption_labels,
        reference=reference_images(archive, faults, size),
        control=control_images(archive, faults, set(subset.ids), plan.class_counts, seed, size),
        unseen=unseen_images(archive, size),
    )


def measure_sets(inputs: EvaluationInputs, real: RealSets, measurer: ImageMeasurer) -> MeasuredSets:
    """Measure the real images and those of every arm's folder."""
    return MeasuredSets(
        arms={name: read_arm(folder, inputs.class_names, measurer) for name, folder in inputs.arms.items()},
        subset=measurer.measure_real(real.subset),
        reference=measurer.measure_real(real.reference),
        control=measurer.measure_real(real.control),
        unseen=measurer.measure_real(real.unseen),
    )
