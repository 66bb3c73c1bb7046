"""The same tensors and texts give the same bytes, and safetensors reads them."""

import errno
import resource

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file

from vdm_pipeline.io.tensors import translate_safetensors_errors, write_tensors

TENSORS = {f"layer.{i}": torch.arange(6.0).reshape(2, 3) + i for i in range(5)}
TEXTS = {f"key {i} ü\n\u2028": f"value {i} \\ 漢字" for i in range(12)}


def test_same_bytes_every_time(tmp_path):
    for index in range(8):
        write_tensors(tmp_path / f"{index}.safetensors", TENSORS, TEXTS)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_round_trip(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, TEXTS)
    loaded = load_file(tmp_path / "a.safetensors")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], value) for name, value in TENSORS.items())
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == TEXTS


def test_os_error_keeps_its_errno(tmp_path):
    """A real error: the file exceeds the process's limit. A full disk differs only in the errno."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OSError) as caught, translate_safetensors_errors(tmp_path / "a"):
            save_file({"a": torch.zeros(10_000)}, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a"))
    assert not any(tmp_path.iterdir())


def test_other_errors_of_the_library_pass(tmp_path):
    with pytest.raises(SafetensorError), translate_safetensors_errors(tmp_path / "a"):
        load(b"nothing")
