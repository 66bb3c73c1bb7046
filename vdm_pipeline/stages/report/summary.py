"""`pipeline_summary`: one JSON with the files, settings, models, versions, costs and metrics of a run."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.tables import read_json
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.data.medmnist_info import dataset_info

PACKAGES = (
    "dagster",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "open_clip_torch",
    "medmnist",
    "numpy",
    "pandas",
)
SEEDED_SECTIONS = ("data", "subset", "training", "generation", "evaluation")
OUTPUT_PATHS = {
    "labeled_csv": "results/labeled_dataset.csv",
    "metrics_json": "results/metrics/auto_label_metrics.json",
    "lora_subset_dir": "data/subset",
    "lora_out_dir": "results/lora",
    "lora_weights": "results/lora/pytorch_lora_weights.safetensors",
    "generated_dir": "results/generated_images",
}
"""Paths of the main outputs, under the keys of the first prototype."""


def summarize(profile: Profile, manifests: Mapping[str, Manifest], root: Path) -> dict[str, Any]:
    """The run's facts, from the manifests and the metric files; paths are relative to ``root``."""
    archive, generated = manifests["raw_npz"].metadata, manifests["generated_images"].metadata
    return {
        **OUTPUT_PATHS,
        "num_generated": generated["n"],
        "profile": profile.name,
        "settings": profile.model_dump(mode="json", exclude={"execution", "automation"}),
        "models": _models(profile),
        "data": {
            "dataset": profile.data.dataset,
            **{key: archive[key] for key in ("sha256", "md5", "status", "n", "size")},
            "licence": dataset_info(profile.data).licence,
        },
        "seeds": {name: getattr(profile, name).seed for name in SEEDED_SECTIONS},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": generated["device"],
        "durations_s": {name: manifest.seconds for name, manifest in manifests.items()},
        "peak_memory_mb": {name: manifest.peak_memory_mb for name, manifest in manifests.items()},
        "metrics": {
            "labels": read_json(root / OUTPUT_PATHS["metrics_json"]),
            "images": read_json(root / "results/metrics/image_metrics.json"),
        },
    }


def _models(profile: Profile) -> dict[str, dict[str, Any]]:
    """Identity and licence of each pinned model, by role."""
    return {
        role: {
            "id": pin.id,
            "revision": pin.revision,
            "sha256": pin.digest if pin.source != "hub" else None,
            "weights": pin.weights,
            "licence": pin.licence,
        }
        for role, pin in profile.models().items()
    }
