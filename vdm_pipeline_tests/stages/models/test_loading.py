"""Errors of the model libraries become one `ModelError`, and remote code is rejected."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vdm_pipeline.errors import ModelError, NetworkError
from vdm_pipeline.stages.models.loading import MAX_MESSAGE, loading, reject_remote_code
from vdm_pipeline_tests.stages.generation.jobs import BASE

FOLDER = Path("some/model")


def test_the_root_cause_is_reported_in_one_line():
    with pytest.raises(ModelError) as caught, loading(FOLDER):
        try:
            raise KeyError("missing\n   weight")
        except KeyError as error:
            raise OSError("wrapper of the library") from error
    message = str(caught.value)
    assert message.startswith(f"{FOLDER} cannot be loaded (KeyError: ")
    assert "wrapper" not in message
    assert "\n" not in message


def test_long_messages_are_cut():
    with pytest.raises(ModelError) as caught, loading(FOLDER):
        raise ValueError("x" * 1000)
    assert str(caught.value).count("x") == MAX_MESSAGE


def test_an_import_that_fails_is_not_blamed_on_the_model(tmp_path, monkeypatch):
    (tmp_path / "broken_library").mkdir()
    (tmp_path / "broken_library/__init__.py").write_text("from . import backend")
    (tmp_path / "broken_library/backend.py").write_text("int('of the environment')")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"^broken_library cannot be imported \(ValueError: .*of the environment"
    with pytest.raises(ModelError, match=message), loading(FOLDER):
        try:
            importlib.import_module("broken_library")
        except ValueError as error:
            raise RuntimeError("wrapper of the library") from error


def test_an_unknown_attention_backend_is_not_blamed_on_the_model():
    code = (
        "from pathlib import Path; from vdm_pipeline.stages.models.diffusion import load_component;"
        f"load_component(Path({str(BASE)!r}), 'unet')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DIFFUSERS_ATTN_BACKEND": "bogus"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModelError: diffusers cannot be imported (ValueError: 'bogus' is not a valid" in result.stderr


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's error."""


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError(), NetworkError("no network")])
def test_memory_errors_and_our_own_errors_pass(error):
    with pytest.raises(type(error)) as caught, loading(FOLDER):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"auto_map": {}}, "auto_map"),
        ({"a": [{"b": {"trust_remote_code": False}}]}, "trust_remote_code"),
    ],
)
def test_remote_code_is_rejected_at_any_depth(tmp_path, config, key):
    (tmp_path / "text").mkdir()
    path = tmp_path / "text/tokenizer_config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"'{key}'") as caught:
        reject_remote_code(tmp_path)
    assert str(path) in str(caught.value)


def test_configurations_without_code_pass(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["CLIPModel"]}')
    reject_remote_code(tmp_path)


def test_a_damaged_configuration_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="JSONDecodeError"):
        reject_remote_code(tmp_path)
