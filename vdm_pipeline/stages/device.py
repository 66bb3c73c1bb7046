"""Which device computes, in which precision, and what it cost."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from vdm_pipeline.errors import PipelineError


def pick_device(wanted: str) -> torch.device:
    """``auto``: CUDA where there is one, else the CPU; asking for CUDA where there is none is an error, not a fall-back."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PipelineError("execution.device is 'cuda' but torch finds no CUDA device; set it to 'auto' or 'cpu'.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """The dtype of frozen weights: fp32 on a CPU (half types are emulated there), bf16 or fp16 by what the GPU does natively."""
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def device_name(device: torch.device) -> str:
    """For people: the GPU's name, or the number of CPU threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


@dataclass
class Cost:
    """What a piece of work took; filled when the block ends."""

    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def measured(device: str = "cpu") -> Iterator[Cost]:
    """Time a block; memory is the peak of the CUDA allocator, or on a CPU that of the whole process so far."""
    cost = Cost()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - begun
        cost.peak_memory_mb = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else resident_peak_mb()


def resident_peak_mb() -> float:
    """Peak resident memory of this process in MB; Linux counts in kB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
