"""The same tensors and texts are the same bytes, and any safetensors reader reads them."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vdm_pipeline.io.tensors import write_tensors

TENSORS = {f"layer.{i}": torch.arange(6.0).reshape(2, 3) + i for i in range(5)}
TEXTS = {f"key {i} ü\n\u2028": f"value {i} \\ 漢字" for i in range(12)}


def test_same_bytes_every_time(tmp_path):
    for index in range(8):
        write_tensors(tmp_path / f"{index}.safetensors", TENSORS, TEXTS)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_what_is_written_comes_back(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, TEXTS)
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == TEXTS
