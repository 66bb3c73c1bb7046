"""All verdicts, in the order in which a reader asks."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_pipeline.stages.report.verdicts.images import agreement, distance, diversity, paired, sharpness
from vdm_pipeline.stages.report.verdicts.labels import labels_work
from vdm_pipeline.stages.report.verdicts.use import copies, safe_to_share, useful
from vdm_pipeline.stages.report.verdicts.verdict import Verdict


def verdicts(
    labels: Mapping[str, Any], images: Mapping[str, Any], class_names: Sequence[str], max_copied: float
) -> list[Verdict]:
    """From the two metric files; ``max_copied`` is that of the profile's checks."""
    return [
        safe_to_share(images, max_copied),
        distance(images),
        paired(images),
        agreement(images, class_names),
        diversity(images),
        sharpness(images, class_names),
        copies(images, max_copied),
        useful(images),
        labels_work(labels, len(class_names)),
    ]
