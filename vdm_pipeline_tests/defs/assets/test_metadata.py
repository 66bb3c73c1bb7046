"""The files of a run name no folder of this machine, and have the permissions of the umask."""

import os
import re
import stat
import struct
from pathlib import Path

import pytest
from PIL import Image

SHARED = {
    "the page": "results/report/index.html",
    "the summary": "results/pipeline_summary.json",
    "records of images": "results/generated_images/metadata.jsonl",
    "labels": "results/labeled_dataset.csv",
}


def header(weights: Path) -> str:
    """The header of a safetensors file."""
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length].decode()


def shared_texts(root: Path) -> dict[str, str]:
    """The texts of files that people share, without the pictures inside the page."""
    texts = {
        what: re.sub(r"base64,[^\"]+", "", (root / name).read_text(encoding="utf-8"))
        for what, name in SHARED.items()
    }
    with Image.open(root / "results/generated_images/gen_000.png") as image:
        texts["a PNG"] = str(image.info)
    return texts | {"the weights": header(root / "results/lora/pytorch_lora_weights.safetensors")}


@pytest.mark.parametrize("folder", ["the project", "the home", "the temporary files"])
def test_shared_files_name_no_folder_of_this_machine(finished_once, folder):
    _, top = finished_once
    texts = shared_texts(top / "project")
    assert "embedded:sd" in texts["a PNG"] and "embedded:sd" in texts["the weights"]
    path = {"the project": top, "the home": Path.home(), "the temporary files": top.parents[2]}[folder]
    assert not [what for what, text in texts.items() if f"{path}/" in text]


def test_results_have_the_permissions_of_the_umask(finished_once):
    _, top = finished_once
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in (top / "project").rglob("*") if path.is_file()]
    assert len(files) > 80
    assert not [path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o666 & ~umask]
