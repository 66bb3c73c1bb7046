"""The digest of a folder depends on names and bytes of its files, and on nothing else."""

from pathlib import Path

import pytest

from vdm_pipeline.io.hashing import digest, folder_digest


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model/unet").mkdir(parents=True)
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/unet/weights.safetensors").write_bytes(bytes(100))
    return tmp_path / "model"


def test_digest_changes_with_bytes_and_names(folder):
    original = folder_digest(folder)
    weights = folder / "unet/weights.safetensors"
    digests = {original}
    weights.write_bytes(bytes(99) + b"\1")
    digests.add(folder_digest(folder))
    weights.write_bytes(bytes(101))
    digests.add(folder_digest(folder))
    weights.write_bytes(bytes(100))
    assert folder_digest(folder) == original
    weights.rename(folder / "unet/other.safetensors")
    digests.add(folder_digest(folder))
    (folder / "more.json").write_text("")
    digests.add(folder_digest(folder))
    assert len(digests) == 5


def test_digest_ignores_cards_and_hidden_files(folder):
    original = folder_digest(folder)
    (folder / "README.md").write_text("card")
    (folder / ".cache/x").mkdir(parents=True)
    (folder / ".cache/x/y.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").write_text("x")
    assert folder_digest(folder) == original


def test_digests_of_a_known_file(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(tmp_path / "f", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert digest(tmp_path / "f", "sha256") == sha256
