"""Models from a hub, pinned as the large profile pins them, give the results of the embedded ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.manifest import read_manifest
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.hub import COMMIT, serving
from vdm_pipeline_tests.paths import ROOT, make_project
from vdm_pipeline_tests.profiles import write_profile

MODELS = ("clip", "sd", "lcm_lora")
ASSETS = (
    "image_embeddings",
    "lora_weights",
    "baseline_images",
    "generated_images",
    "extra_images",
    "image_metrics",
)


def pin(model: str) -> dict:
    folder = EMBEDDED / model
    weights = {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*.safetensors")}
    return {"id": f"owner/{model}", "revision": COMMIT, "weights": weights, "licence": "MIT"}


def pixels(results: Path) -> dict[str, np.ndarray]:
    folders = ("generated_images", "generated_images_no_fine_tuning")
    return {
        f"{name}/{path.name}": np.asarray(Image.open(path))
        for name in folders
        for path in (results / name).glob("*.png")
    }


def run_report(finished, profile: Path, hub_url: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command line, with the models of the hub."""
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*report"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "VDM_"))}
    environment = inherited | {
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(home),
        "no_proxy": "*",
        "DAGSTER_HOME": str(finished.home),
        "VDM_PROFILE": str(profile),
        "VDM_ROOT": str(finished.root),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        command, env=environment, cwd=make_project(finished.root), capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_models_from_a_hub_give_the_same_results_as_embedded_ones(finished, tmp_path):
    weights = finished.results / "lora/pytorch_lora_weights.safetensors"
    adapter, images = load_file(weights), pixels(finished.results)
    finished.change(
        labelling={"model": pin("clip")},
        training={"base": pin("sd")},
        generation={"lcm_lora": pin("lcm_lora")},
    )
    profile = write_profile(tmp_path / "hub.toml", finished.profile)
    with serving({f"owner/{name}": EMBEDDED / name for name in MODELS}) as hub:
        result = run_report(finished, profile, hub.url, tmp_path / "hub")
    assert result.returncode == 0, result.stderr[-4000:]
    for asset in ASSETS:
        manifest = read_manifest(finished.results / f".manifests/{asset}.json")
        assert "owner/" in str(manifest.settings), f"{asset} used the models of the hub"
    for name, tensor in load_file(weights).items():
        np.testing.assert_allclose(tensor, adapter[name], atol=1e-6, err_msg=name)
    images_from_hub = pixels(finished.results)
    assert images_from_hub.keys() == images.keys()
    for name, image in images_from_hub.items():
        assert np.abs(image.astype(int) - images[name]).max() <= 1, name
    assert "owner/sd" in (finished.results / "report/index.html").read_text()
