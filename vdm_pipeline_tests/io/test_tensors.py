"""The same tensors and texts are the same bytes, and any safetensors reader reads them."""

import errno
import resource

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file

from vdm_pipeline.io.tensors import system_faults, write_tensors

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


def test_a_fault_of_the_system_keeps_its_number(tmp_path):
    """A real one: a file that grows beyond what the process is allowed; a full disk differs in the number alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OSError) as caught, system_faults(tmp_path / "a"):
            save_file({"a": torch.zeros(10_000)}, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a"))
    assert not any(tmp_path.iterdir())


def test_another_fault_of_the_library_stays_what_it_is(tmp_path):
    with pytest.raises(SafetensorError), system_faults(tmp_path / "a"):
        load(b"nothing")
