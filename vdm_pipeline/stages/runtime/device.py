"""The device that computes, its precision, and its description."""

from typing import Any

import torch

from vdm_pipeline.errors import PipelineError


def pick_device(name: str, setting: str = "execution.device") -> torch.device:
    """The device that ``setting`` names; ``auto`` is CUDA, else Apple's MPS, else the CPU.

    Raises `PipelineError` if the device is not available; there is no silent fallback.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_available in available.items() if is_available))
    if not available[name]:
        raise PipelineError(
            f"{setting} is '{name}' but torch finds no {name.upper()} device; set it to 'auto' or 'cpu'."
        )
    return torch.device(name)


def pick_dtype(device: torch.device) -> torch.dtype:
    """The dtype of frozen weights: fp32 on a CPU, bf16 if the GPU supports it natively, else fp16.

    A CPU emulates half types slowly. CUDA has bf16 from compute capability 8.0 on, MPS from macOS 14 on.
    """
    if device.type == "cpu":
        return torch.float32
    if device.type == "mps":
        has_bf16 = torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16


def device_name(device: torch.device) -> str:
    """The GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU (MPS)"
    return f"CPU, {torch.get_num_threads()} threads"


def reset_device_peak(device: torch.device) -> None:
    """Start a new measurement of the GPU's peak memory; CUDA only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_peak_mb(device: torch.device) -> float | None:
    """GPU memory of this process, MB; None on a CPU.

    On CUDA the peak since `reset_device_peak`, on MPS the current allocation.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 2**20
    return None


def device_facts(device: torch.device) -> dict[str, Any]:
    """Name and dtype, and for a GPU also its memory, compute capability and peak memory."""
    facts: dict[str, Any] = {
        "device": device_name(device),
        "dtype": str(pick_dtype(device)).removeprefix("torch."),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["device_memory_gb"] = round(properties.total_memory / 2**30, 1)
        facts["compute_capability"] = f"{properties.major}.{properties.minor}"
    elif device.type == "mps":
        facts["device_memory_gb"] = round(torch.mps.recommended_max_memory() / 2**30, 1)
    peak = device_peak_mb(device)
    if peak is not None:
        facts["device_peak_memory_mb"] = round(peak, 1)
    return facts


def wait_for(device: torch.device) -> None:
    """Wait until the GPU has done all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
