"""Models that are pinned by commit and hashes, as the large profile's are, make what the same models make from the package."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.io.manifest import read_manifest
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline_tests.conftest import write_profile
from vdm_pipeline_tests.hub import COMMIT, serving
from vdm_pipeline_tests.paths import ROOT

MODELS = ("clip", "sd", "lcm_lora")
REPORTED_ASSETS = (
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


def test_models_of_a_hub_make_what_those_of_the_package_make(made, tmp_path):
    weights = made.results / "lora/pytorch_lora_weights.safetensors"
    adapter, images = load_file(weights), pixels(made.results)
    made.change(
        labelling={"model": pin("clip")},
        training={"base": pin("sd")},
        generation={"lcm_lora": pin("lcm_lora")},
    )
    profile = write_profile(tmp_path / "hub.toml", made.profile)

    with serving({f"owner/{name}": EMBEDDED / name for name in MODELS}) as hub:
        variables = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hub"),
            "no_proxy": "*",
            "DAGSTER_HOME": str(made.home),
        }
        variables |= {"VDM_PROFILE": str(profile), "VDM_ROOT": str(made.root), "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable,
            "-m",
            "dagster",
            "asset",
            "materialize",
            "-m",
            "vdm_pipeline.definitions",
            "--select",
            "*report",
        ]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "VDM_"))
        } | variables
        done = subprocess.run(
            command, env=environment, cwd=made.root, capture_output=True, text=True, timeout=600
        )

    assert done.returncode == 0, done.stderr[-4000:]
    for asset in REPORTED_ASSETS:
        record = read_manifest(made.results / f".manifests/{asset}.json")
        assert "owner/" in str(record.settings), f"{asset} was made by the models of the hub"
    for name, tensor in load_file(weights).items():
        np.testing.assert_allclose(tensor, adapter[name], atol=1e-6, err_msg=name)
    again = pixels(made.results)
    assert again.keys() == images.keys()
    for name, image in again.items():
        assert np.abs(image.astype(int) - images[name]).max() <= 1, name
    assert "owner/sd" in (made.results / "report/index.html").read_text()
