"""Pinned models: a folder is used only if its content is the pinned one."""

import json
from pathlib import Path

import pytest

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.settings import ModelPin
from vdm_pipeline.stages.models.pins import EMBEDDED, resolve_model

PINS = json.loads((EMBEDDED / "pins.json").read_text())


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model/unet").mkdir(parents=True)
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/unet/weights.safetensors").write_bytes(bytes(100))
    return tmp_path / "model"


def pin(folder: Path, digest: str) -> ModelPin:
    return ModelPin(id=str(folder), sha256=digest, licence="MIT")


@pytest.mark.parametrize("name", sorted(PINS))
def test_embedded_pins_are_true(name):
    assert folder_digest(EMBEDDED / name) == PINS[name]
    assert resolve_model(ModelPin(id=f"embedded:{name}", licence="MIT")) == EMBEDDED / name


def test_every_embedded_model_is_pinned():
    assert {path.name for path in EMBEDDED.iterdir() if list(path.rglob("*.safetensors"))} == set(PINS)


def test_digest_changes_with_bytes_and_names(folder):
    before = folder_digest(folder)
    weights = folder / "unet/weights.safetensors"
    seen = {before}
    weights.write_bytes(bytes(99) + b"\1")
    seen.add(folder_digest(folder))
    weights.write_bytes(bytes(101))
    seen.add(folder_digest(folder))
    weights.write_bytes(bytes(100))
    assert folder_digest(folder) == before
    weights.rename(folder / "unet/other.safetensors")
    seen.add(folder_digest(folder))
    (folder / "more.json").write_text("")
    seen.add(folder_digest(folder))
    assert len(seen) == 5


def test_digest_ignores_cards_and_hidden_files(folder):
    before = folder_digest(folder)
    (folder / "README.md").write_text("card")
    (folder / ".cache/x").mkdir(parents=True)
    (folder / ".cache/x/y.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").write_text("x")
    assert folder_digest(folder) == before


def test_folder_of_the_pinned_content_is_taken(folder):
    digest = folder_digest(folder)
    assert resolve_model(pin(folder, digest)) == folder
    assert pin(folder, digest).digest == digest


def test_folder_of_other_content_is_refused(folder):
    digest = folder_digest(folder)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(
        ModelError, match=f"has sha256 {folder_digest(folder)}, but {digest} is pinned"
    ) as caught:
        resolve_model(pin(folder, digest))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["embedded:nothing", "./nowhere", "/no/where/at/all"])
def test_folder_that_is_missing_is_a_sentence(name):
    with pytest.raises(ModelError, match=f"does not exist; correct the id '{name}'"):
        resolve_model(ModelPin(id=name, sha256="0" * 64, licence="MIT"))


def test_embedded_model_without_a_pin_is_a_sentence():
    with pytest.raises(ModelError, match="no embedded model 'nothing'; take one of: clip, lcm_lora, sd"):
        ModelPin(id="embedded:nothing", licence="MIT").digest
