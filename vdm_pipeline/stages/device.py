"""Which device computes, and in which precision."""

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
