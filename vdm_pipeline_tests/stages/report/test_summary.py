"""The summary holds the figures of the manifests and metric files under their own names."""

import pytest

from vdm_pipeline.io.manifest import Manifest
from vdm_pipeline.io.tables import write_json
from vdm_pipeline.stages.report.summary import summarize

METADATA = {
    "raw_npz": {
        "sha256": "ab",
        "md5": "cd",
        "status": "phantom",
        "n": 128,
        "size": 64,
        "preview": "not in the summary",
    },
    "generated_images": {"n": 6, "device": "a GPU"},
    "baseline_images": {"n": 5},
}
SECONDS = {"raw_npz": 1.5, "generated_images": 20.25, "baseline_images": 0.125}
MEMORY = {"raw_npz": 100.0, "generated_images": 900.5, "baseline_images": 800.0}


@pytest.fixture
def summary(tiny, project) -> dict:
    for name, value in (("auto_label", 0.75), ("image", 0.25)):
        write_json(project / f"results/metrics/{name}_metrics.json", {"figure": value})
    empty = {
        "fingerprint": "",
        "code_version": "",
        "data_version": "",
        "inputs": {},
        "files": {},
        "settings": {},
    }
    manifests = {
        name: Manifest(
            asset=name, metadata=METADATA[name], seconds=SECONDS[name], peak_memory_mb=MEMORY[name], **empty
        )
        for name in METADATA
    }
    return summarize(tiny, manifests, project)


def test_cost(summary):
    assert summary["durations_s"] == SECONDS
    assert summary["peak_memory_mb"] == MEMORY


def test_counts_and_archive(summary):
    assert summary["num_generated"] == 6
    assert summary["device"] == "a GPU"
    licence = {"licence": "MIT (rendered by this package)"}
    assert (
        summary["data"]
        == {"dataset": "phantom", "sha256": "ab", "md5": "cd", "status": "phantom", "n": 128, "size": 64}
        | licence
    )


def test_metrics(summary):
    assert summary["metrics"] == {"labels": {"figure": 0.75}, "images": {"figure": 0.25}}


def test_seeds_and_models(summary, tiny):
    assert summary["seeds"] == {"data": 1, "subset": 0, "training": 0, "generation": 42, "evaluation": 0}
    assert {role: model["id"] for role, model in summary["models"].items()} == {
        role: pin.id for role, pin in tiny.models().items()
    }
    assert all(len(model["sha256"]) == 64 for model in summary["models"].values())
