"""Which device computes, in which precision, and what is told of it."""

from typing import Any

import torch

from vdm_pipeline.errors import PipelineError


def pick_device(wanted: str) -> torch.device:
    """``auto``: CUDA, else Apple's MPS, else the CPU; asking for one that is not there is an error, not a fall-back."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[wanted]:
        raise PipelineError(
            f"execution.device is '{wanted}' but torch finds no {wanted.upper()} device; set it to 'auto' or 'cpu'."
        )
    return torch.device(wanted)


def pick_dtype(device: torch.device) -> torch.dtype:
    """The dtype of frozen weights: fp32 on a CPU (half types are emulated there), bf16 where the GPU has it natively, else fp16.

    CUDA has it from compute capability 8.0 on, MPS from macOS 14 on.
    """
    if device.type == "cpu":
        return torch.float32
    native = (
        torch.backends.mps.is_macos_or_newer(14, 0)
        if device.type == "mps"
        else torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return torch.bfloat16 if native else torch.float16


def device_name(device: torch.device) -> str:
    """For people: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU (MPS)" if device.type == "mps" else f"CPU, {torch.get_num_threads()} threads"


def forget_device_peak(device: torch.device) -> None:
    """Count the peak of the GPU's memory from now on, where that can be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_peak_mb(device: torch.device) -> float | None:
    """Peak memory of this process on the GPU, MB: on CUDA since `forget_device_peak`, on MPS what it holds now; None on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return torch.mps.driver_allocated_memory() / 2**20 if device.type == "mps" else None


def device_facts(device: torch.device) -> dict[str, Any]:
    """What a record says of the device: name, dtype, and of a GPU its memory, capability and peak."""
    facts: dict[str, Any] = {
        "device": device_name(device),
        "dtype": str(pick_dtype(device)).removeprefix("torch."),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "device_memory_gb": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
    elif device.type == "mps":
        facts["device_memory_gb"] = round(torch.mps.recommended_max_memory() / 2**30, 1)
    peak = device_peak_mb(device)
    return facts if peak is None else facts | {"device_peak_memory_mb": round(peak, 1)}


def wait_for(device: torch.device) -> None:
    """Until all that was asked of the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
