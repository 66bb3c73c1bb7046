"""The result of each asset in a few words, for the terminal and Dagster's overview."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

RESULTS: dict[str, tuple[str, ...]] = {
    "raw_npz": ("{n:,} images", "{size} px"),
    "image_embeddings": ("{n:,} images", "{images_per_s:.0f} per s"),
    "labeled_dataset": (
        "{dagster/row_count:,} images labelled",
        "{labels_changed:,} labels changed: balanced accuracy {test_balanced_accuracy_before:.2f} before, "
        "{test_balanced_accuracy_after:.2f} now",
    ),
    "label_metrics": ("test: balanced accuracy {test_balanced_accuracy:.2f}", "ROC AUC {test_roc_auc:.2f}"),
    "data_faults": ("faulty images: {faulty:,}",),
    "label_noise": ("suspect labels: {suspects:,} ({suspect_share:.1%})",),
    "lora_subset": ("{n:,} images with captions", "purity {purity:.1%}"),
    "lora_weights": ("{step:,.0f} steps", "loss {loss:.3f}", "validation loss {validation_loss:.3f}"),
    "generated_images": ("{n:,} images", "{images_per_s} per s"),
    "baseline_images": ("{n:,} images", "{images_per_s} per s"),
    "extra_images": ("arms: {arms}",),
    "image_metrics": (
        "KID {kid_lora:.3f} with the LoRA, {kid_baseline:.3f} without",
        "judge accuracy {judge_accuracy:.2f}",
    ),
    "pipeline_summary": ("settings, models, data and cost in one file",),
    "report": ("one page", "{megabytes} MB"),
}
"""Formats of an asset's metadata. One is left out if its value is missing or of another type."""


def one_line_result(asset: str, metadata: Mapping[str, Any]) -> str:
    """The asset's result, such as ``400 images with captions · purity 99.8%``; empty without a format."""
    parts = []
    for template in RESULTS.get(asset, ()):
        with suppress(KeyError, ValueError, TypeError):
            parts.append(template.format_map(metadata))
    return " · ".join(parts)
