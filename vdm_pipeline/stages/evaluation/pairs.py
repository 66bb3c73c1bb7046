"""Baseline and LoRA image by image: both have the same prompts and seeds, so their differences are paired."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.metrics.manifold import distances
from vdm_pipeline.stages.evaluation.metrics.paired import paired_difference
from vdm_pipeline.stages.evaluation.samples import Sample


def compare_pairs(
    baseline: Sample, lora: Sample, reference: Sample, class_names: Sequence[str], evaluation: Evaluation
) -> dict[str, Any]:
    """LoRA minus baseline of every value that an image has, by metric and group: ``n, value, ci95, p``."""
    before, after = image_values(baseline, reference), image_values(lora, reference)
    rows = {"overall": np.ones(len(lora), bool)} | {
        name: lora.labels == label for label, name in enumerate(class_names)
    }
    return {
        metric: {
            group: paired_difference(
                before[metric][mine], after[metric][mine], evaluation.bootstrap, evaluation.seed
            )
            for group, mine in rows.items()
            if mine.any() and np.isfinite([before[metric][mine], after[metric][mine]]).all()
        }
        for metric in before
    }


def image_values(sample: Sample, reference: Sample) -> dict[str, NDArray[np.float64]]:
    """Of each image ``[n]``: what the judge says, sharpness, colour, and how far the nearest real image of its class is."""
    strangers = sample.labels[:, None] != reference.labels
    nearest = {
        f"nearest_real_{name}": np.where(strangers, np.inf, distances(features, reference.spaces[name])).min(
            1
        )
        for name, features in sample.spaces.items()
    }
    return {
        "label_agreement": sample.agreement,
        "label_confidence": sample.confidence,
        "sharpness": sample.sharpness,
        "chroma": sample.chroma,
        **nearest,
    }
