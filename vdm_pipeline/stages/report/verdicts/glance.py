"""All verdicts of the section "At a glance", in reading order."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.stages.report.verdicts.copies import copies_found, novelty
from vdm_pipeline.stages.report.verdicts.diversity import diversity
from vdm_pipeline.stages.report.verdicts.labels import label_quality
from vdm_pipeline.stages.report.verdicts.realism import class_agreement, distance, paired, sharpness
from vdm_pipeline.stages.report.verdicts.utility import utility
from vdm_pipeline.stages.report.verdicts.verdict import Verdict


def all_verdicts(
    labels: Mapping[str, Any], images: Mapping[str, Any], class_names: Sequence[str], max_copied: float
) -> list[Verdict]:
    """Verdicts from the two metric files; ``max_copied`` is the limit of the profile's checks."""
    return [
        copies_found(images, max_copied),
        distance(images),
        paired(images),
        class_agreement(images, class_names),
        diversity(images),
        sharpness(images, class_names),
        novelty(images, max_copied),
        utility(images),
        label_quality(labels, len(class_names)),
    ]
