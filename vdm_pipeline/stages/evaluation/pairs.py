"""Compare baseline and LoRA image by image: both have the same prompts and seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.measured_images import MeasuredImages
from vdm_pipeline.stages.evaluation.metrics.manifold import distances
from vdm_pipeline.stages.evaluation.metrics.paired import paired_difference
from vdm_pipeline.stages.evaluation.results import PairedDifference

Floats = NDArray[np.float64]


def paired_differences(
    baseline: MeasuredImages,
    lora: MeasuredImages,
    reference: MeasuredImages,
    class_names: Sequence[str],
    evaluation: Evaluation,
) -> dict[str, dict[str, PairedDifference]]:
    """LoRA minus baseline by metric and group.

    Groups without images are left out, and so are values that are not finite (no reference image of the
    class).
    """
    before, after = image_values(baseline, reference), image_values(lora, reference)
    groups = {"overall": np.ones(len(lora), bool)}
    groups |= {name: lora.labels == label for label, name in enumerate(class_names)}
    return {metric: _by_group(before[metric], after[metric], groups, evaluation) for metric in before}


def _by_group(
    before: Floats, after: Floats, groups: Mapping[str, NDArray[np.bool_]], evaluation: Evaluation
) -> dict[str, PairedDifference]:
    differences = {}
    for name, rows in groups.items():
        pairs = before[rows], after[rows]
        if rows.any() and np.isfinite(pairs).all():
            figure = paired_difference(*pairs, evaluation.bootstrap, evaluation.seed)
            differences[name] = PairedDifference(figure["n"], Estimate.from_dict(figure), figure["p"])
    return differences


def image_values(images: MeasuredImages, reference: MeasuredImages) -> dict[str, Floats]:
    """Values of each image ``[n]``: scores, and the distance to the nearest real image of its class."""
    other_class = images.labels[:, None] != reference.labels
    nearest = {}
    for space, features in images.features.items():
        apart = np.where(other_class, np.inf, distances(features, reference.features[space]))
        nearest[f"nearest_real_{space}"] = apart.min(1)
    return {
        "label_agreement": images.agreement,
        "label_confidence": images.confidence,
        "sharpness": images.sharpness,
        "chroma": images.chroma,
        **nearest,
    }
