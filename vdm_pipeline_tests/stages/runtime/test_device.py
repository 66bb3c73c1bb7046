"""The device, its precision and its description, whatever this machine has."""

import pytest
import torch

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.runtime import device as module
from vdm_pipeline.stages.runtime.device import device_facts, pick_device, pick_dtype


@pytest.fixture
def with_devices(monkeypatch):
    """Make torch find these devices."""

    def install(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return install


@pytest.mark.parametrize(
    ("available", "name", "picked"),
    [
        ((), "auto", "cpu"),
        (("mps",), "auto", "mps"),
        (("cuda",), "auto", "cuda"),
        (("cuda", "mps"), "auto", "cuda"),
        (("cuda", "mps"), "mps", "mps"),
        (("cuda", "mps"), "cpu", "cpu"),
    ],
)
def test_auto_picks_the_best_device(with_devices, available, name, picked):
    with_devices(*available)
    assert pick_device(name).type == picked


@pytest.mark.parametrize(("available", "name"), [((), "cuda"), (("mps",), "cuda"), (("cuda",), "mps")])
def test_unavailable_device_is_an_error(with_devices, available, name):
    with_devices(*available)
    with pytest.raises(PipelineError, match=f"execution.device is '{name}'"):
        pick_device(name)


@pytest.mark.parametrize(
    ("kind", "has_bf16", "dtype"),
    [
        ("cpu", True, torch.float32),
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float16),
        ("mps", True, torch.bfloat16),
        ("mps", False, torch.float16),
    ],
)
def test_half_precision_only_on_devices_that_have_it(monkeypatch, kind, has_bf16, dtype):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 and not including_emulation
    )
    monkeypatch.setattr(
        torch.backends.mps, "is_macos_or_newer", lambda major, minor: has_bf16 and (major, minor) == (14, 0)
    )
    assert pick_dtype(torch.device(kind)) == dtype


def test_facts_of_a_cpu():
    assert device_facts(torch.device("cpu")) == {
        "device": f"CPU, {torch.get_num_threads()} threads",
        "dtype": "float32",
    }


def test_facts_of_a_gpu(monkeypatch):
    properties = type("Properties", (), {"total_memory": 24 * 2**30, "major": 8, "minor": 6})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(module, "pick_dtype", lambda device: torch.bfloat16)
    assert device_facts(torch.device("cuda")) == {
        "device": "a card",
        "dtype": "bfloat16",
        "device_memory_gb": 24.0,
        "compute_capability": "8.6",
        "device_peak_memory_mb": 3.0,
    }
