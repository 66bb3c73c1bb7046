"""A labeller in two hub repositories, one with a pickle, becomes a folder that open_clip opens offline."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.disk import translate_disk_errors
from vdm_pipeline.io.hashing import file_sha256
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models import clip_conversion
from vdm_pipeline.stages.models.verified_folder import VerifiedFolder
from vdm_pipeline_tests.hub import COMMIT, Hub, serving
from vdm_pipeline_tests.paths import ROOT
from vdm_pipeline_tests.rehearsal.repositories import BIOMEDBERT, write_biomedbert, write_biomedclip

CLIP = "microsoft/BiomedCLIP"
PICKLE = "open_clip_pytorch_model.bin"
SMALL = {"num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 96}
VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
PROMPTS = [["a normal chest x-ray"], ["a chest x-ray showing pneumonia"]]
CONVERT = """
import sys
from vdm_pipeline.errors import PipelineError
from vdm_pipeline.settings import Labelling
from vdm_pipeline.stages.models.clip_conversion import labeller_folder

labelling = Labelling.model_validate_json(sys.argv[1])
try:
    folder = labeller_folder(labelling, print)
except PipelineError as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit()
"""
EMBED = f"""{CONVERT}
import numpy as np
import torch
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot

labeller = ZeroShot(folder, torch.device("cpu"))
images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
text = labeller.encode_prompts(labelling.prompts)
np.savez(sys.argv[2], images=labeller.embed(images), text=text, folder=str(folder))
"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small repositories with the layout of the real ones."""
    top = tmp_path_factory.mktemp("repositories")
    bert = write_biomedbert(top / "bert", **SMALL)
    return {BIOMEDBERT: bert, CLIP: write_biomedclip(top / "clip", bert, VISION)}


@pytest.fixture
def hub(repositories) -> Iterator[Hub]:
    with serving(dict(repositories)) as hub:
        yield hub


def run(script: str, hub: Hub, home: Path, *arguments: str, **environment: str) -> str:
    """Run a script with the labeller's settings in a process; returns what it printed."""
    pin = {"revision": COMMIT, "licence": "MIT"}
    weights = {PICKLE: file_sha256(hub.repositories[CLIP] / PICKLE)}
    labelling = {
        "model": {"id": CLIP, "weights": weights, **pin},
        "text_model": {"id": BIOMEDBERT, "weights": {}, **pin},
        "templates": ["{phrase}"],
        "phrases": PROMPTS,
    }
    variables = (
        os.environ
        | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "no_proxy": "*", "PYTHONPATH": str(ROOT)}
        | environment
    )
    command = [sys.executable, "-c", script, json.dumps(labelling), *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def embed(hub: Hub, home: Path) -> tuple[dict[str, np.ndarray], str]:
    """Embed images and prompts in a process; return the arrays and the output."""
    out = home.with_suffix(".npz")
    out.unlink(missing_ok=True)
    output = run(EMBED, hub, home, str(out))
    with np.load(out) as arrays:
        return dict(arrays), output


def peer(repositories: dict[str, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings by open_clip itself, from the pickle."""
    config = json.loads((repositories[CLIP] / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    name = f"local-dir:{repositories[CLIP]}"
    text = config | {"hf_model_name": str(repositories[BIOMEDBERT]), "hf_model_pretrained": False}
    model, _, transform = open_clip.create_model_and_transforms(name, text_cfg=text)
    model.eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    pixels = torch.stack([transform(Image.fromarray(image).convert("RGB")) for image in images])
    tokens = open_clip.get_tokenizer(name)([prompt for (prompt,) in PROMPTS])
    assert tokens.shape == (2, 256)
    with torch.inference_mode():
        return model.encode_image(pixels, normalize=True).numpy(), model.encode_text(
            tokens, normalize=True
        ).numpy()


@dataclass(frozen=True)
class Embedded:
    """A cache, and what the first process that embedded with it gave."""

    home: Path
    arrays: dict[str, np.ndarray]
    output: str

    @property
    def folder(self) -> Path:
        """The converted labeller."""
        return Path(str(self.arrays["folder"]))


@pytest.fixture(scope="module")
def embedded(repositories, tmp_path_factory) -> Embedded:
    """For two tests, because a process that embeds starts slowly."""
    home = tmp_path_factory.mktemp("cache") / "home"
    with serving(dict(repositories)) as hub:
        return Embedded(home, *embed(hub, home))


@pytest.mark.slow
def test_embeddings_equal_those_of_the_published_pickle(hub, repositories, embedded):
    arrays, output, folder = embedded.arrays, embedded.output, embedded.folder
    assert "converting open_clip_pytorch_model.bin to safetensors, once" in output
    images, text = peer(repositories)
    np.testing.assert_allclose(arrays["images"], images, atol=1e-6)
    np.testing.assert_allclose(arrays["text"], text, atol=1e-6)
    assert not list(folder.rglob("*.bin"))
    record = json.loads((folder / ".made_from.json").read_text())
    assert record["files"]["open_clip_model.safetensors"] == file_sha256(
        folder / "open_clip_model.safetensors"
    )
    assert record["weights"] == {PICKLE: file_sha256(repositories[CLIP] / PICKLE)}
    again, output = embed(hub, embedded.home)
    assert "converting" not in output
    assert not hub.requests
    np.testing.assert_array_equal(again["images"], arrays["images"])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_changed_files_are_converted_again(hub, embedded):
    folder = embedded.folder
    original = contents(folder)
    weights, config = folder / "open_clip_model.safetensors", folder / "text/config.json"
    weights.write_bytes(original[weights][:-1] + bytes([original[weights][-1] ^ 1]))
    config.unlink()
    assert "converting" in run(CONVERT, hub, embedded.home, HF_HUB_OFFLINE="1")
    assert contents(folder) == original


class Exploit:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path(os.environ["EXPLOIT_PATH"]),))


@pytest.mark.parametrize("content", ["code", "no tensors"])
def test_a_pickle_with_more_than_tensors_is_an_error(hub, repositories, tmp_path, monkeypatch, content):
    monkeypatch.setenv("EXPLOIT_PATH", str(tmp_path / "code_ran"))
    other = tmp_path / "clip"
    other.mkdir()
    for path in repositories[CLIP].glob("*.*"):
        (other / path.name).write_bytes(path.read_bytes())
    torch.save({"weight": Exploit() if content == "code" else [1, 2]}, other / PICKLE)
    hub.repositories[CLIP] = other
    output = run(CONVERT, hub, tmp_path / "home")
    assert "ModelError: " in output
    assert ("cannot be loaded" if content == "code" else "named tensors") in output
    assert not (tmp_path / "code_ran").exists()
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_a_full_disk_during_the_conversion_leaves_nothing(tmp_path, monkeypatch):
    def full(tensors: dict, path: Path) -> None:
        path.write_bytes(bytes(1000))
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    source, target = tmp_path / "clip", tmp_path / "cache/folder"
    source.mkdir()
    target.mkdir(parents=True)
    (source / "open_clip_config.json").write_text("{}")
    torch.save({"weight": torch.zeros(3)}, source / PICKLE)
    pin = ModelPin(id=CLIP, revision=COMMIT, weights={PICKLE: file_sha256(source / PICKLE)}, licence="MIT")
    folder = VerifiedFolder(target, clip_conversion.RECORD, clip_conversion.HASHES_KEY)
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with (
            pytest.raises(PipelineError, match=r"disk is full .*safetensors"),
            translate_disk_errors(tmp_path),
        ):
            clip_conversion._assemble(source, None, pin, folder, print)
    assert list(target.parent.rglob("*")) == [target]
    clip_conversion._assemble(source, None, pin, folder, print)
    assert folder.is_intact()
