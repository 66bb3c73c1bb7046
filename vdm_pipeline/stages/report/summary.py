"""`pipeline_summary`: the keys of the first prototype, and what it promised and lacked."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.tables import read_json
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages.data.medmnist_info import facts_of

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


def summarize(profile: Profile, manifests: Mapping[str, Manifest], root: Path) -> dict[str, Any]:
    """Collect the run's facts from the upstream records and metric files; paths are relative to ``root``."""
    archive = manifests["raw_npz"].metadata
    return {
        "labeled_csv": "results/labeled_dataset.csv",
        "metrics_json": "results/metrics/auto_label_metrics.json",
        "lora_subset_dir": "data/subset",
        "lora_out_dir": "results/lora",
        "lora_weights": "results/lora/pytorch_lora_weights.safetensors",
        "generated_dir": "results/generated_images",
        "num_generated": manifests["generated_images"].metadata["n"],
        "profile": profile.name,
        "settings": profile.model_dump(mode="json", exclude={"execution", "automation"}),
        "models": {
            role: {
                "id": pin.id,
                "revision": pin.revision,
                "sha256": pin.digest if pin.source != "hub" else None,
                "weights": pin.weights,
                "licence": pin.licence,
            }
            for role, pin in profile.models().items()
        },
        "data": {
            "dataset": profile.data.dataset,
            **{key: archive[key] for key in ("sha256", "md5", "status", "n", "size")},
            "licence": facts_of(profile.data).licence,
        },
        "seeds": {
            name: getattr(profile, name).seed
            for name in ("data", "subset", "training", "generation", "evaluation")
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": manifests["generated_images"].metadata["device"],
        "durations_s": {name: manifest.seconds for name, manifest in manifests.items()},
        "peak_memory_mb": {name: manifest.peak_memory_mb for name, manifest in manifests.items()},
        "metrics": {
            "labels": read_json(root / "results/metrics/auto_label_metrics.json"),
            "images": read_json(root / "results/metrics/image_metrics.json"),
        },
    }
