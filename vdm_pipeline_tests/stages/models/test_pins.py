"""A pinned folder is used only if its content matches the pin."""

import json
from pathlib import Path

import pytest

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.settings import EMBEDDED, ModelPin
from vdm_pipeline.stages.models.pins import pin_name, resolve_model

PINS = json.loads((EMBEDDED / "pins.json").read_text())


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    return tmp_path / "model"


def pin(folder: Path, sha256: str) -> ModelPin:
    return ModelPin(id=str(folder), sha256=sha256, licence="MIT")


@pytest.mark.parametrize("name", sorted(PINS))
def test_embedded_models_match_their_pins(name):
    assert folder_digest(EMBEDDED / name) == PINS[name]
    assert resolve_model(ModelPin(id=f"embedded:{name}", licence="MIT")) == EMBEDDED / name


def test_every_embedded_model_is_pinned():
    assert {path.name for path in EMBEDDED.iterdir() if list(path.rglob("*.safetensors"))} == set(PINS)


def test_a_folder_with_the_pinned_content_is_used(folder):
    sha256 = folder_digest(folder)
    assert resolve_model(pin(folder, sha256)) == folder
    assert pin_name(pin(folder, sha256)) == f"{folder}@{sha256}"


def test_a_folder_with_other_content_is_an_error(folder):
    pinned = folder_digest(folder)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(ModelError, match=f"{folder_digest(folder)}.*{pinned}") as caught:
        resolve_model(pin(folder, pinned))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model_id", ["embedded:nothing", "./nowhere", "/no/where/at/all", "~nobody-at-all/x"]
)
def test_a_missing_folder_is_an_error(model_id):
    with pytest.raises(ModelError, match=f"'{model_id}'"):
        resolve_model(ModelPin(id=model_id, sha256="0" * 64, licence="MIT"))


def test_an_unknown_embedded_model_is_an_error():
    with pytest.raises(ModelError, match=r"'nothing'.*clip, lcm_lora, sd"):
        _ = ModelPin(id="embedded:nothing", licence="MIT").digest
