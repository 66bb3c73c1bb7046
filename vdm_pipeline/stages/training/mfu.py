"""Model FLOPs utilization (MFU): the model's counted FLOPs against the FLOP/s measured on this machine."""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from vdm_pipeline.io.memory import peak_resident_mb
from vdm_pipeline.settings import Training
from vdm_pipeline.stages.runtime.device import device_peak_mb, wait_for
from vdm_pipeline.stages.training.adapter import add_lora


def step_flops(
    unet_config: Mapping[str, Any], training: Training, latent: tuple[int, ...], text: tuple[int, ...]
) -> float:
    """FLOPs of the UNet's forward and backward pass for one image; a multiply-add counts as 2.

    ``latent`` and ``text`` are shapes, ``[4, h, w]`` and ``[77, d]``. Counted by torch on the meta device, so
    it takes no memory. The recomputation of gradient checkpointing does not count.
    """
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(unet_config).requires_grad_(False)
        add_lora(unet, training)
        inputs = torch.empty(1, *latent), torch.zeros(1, dtype=torch.long), torch.empty(1, *text)
        with FlopCounterMode(display=False) as counter:
            unet(*inputs, return_dict=False)[0].sum().backward()
    return float(counter.get_total_flops())


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matmul, the best of three, measured on this machine once per process.

    The denominator of MFU here, in the place of the FLOP/s of a data sheet.
    """
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(4):
        wait_for(device)
        start = time.perf_counter()
        torch.mm(a, b)
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:])


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory on the GPU, or on a CPU the peak resident memory of this process, MB."""
    peak = device_peak_mb(device)
    return peak_resident_mb() if peak is None else peak
