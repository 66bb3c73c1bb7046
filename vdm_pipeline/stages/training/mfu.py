"""What a step costs: FLOPs of the model as counted, and the FLOPs a second that the machine was measured to do."""

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
    """FLOPs of the UNet's forward and backward pass with its adapter, an image, as torch counts them (2 a multiply-add).

    ``latent`` is ``[4, h, w]`` and ``text`` ``[77, d]``. Counted on a model without memory, so it costs none, and what gradient
    checkpointing computes again does not count.
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
    """FLOPs a second of a large matrix product, the best of three: what this machine does, not what its maker says.

    Measured once a process.
    """
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(4):
        wait_for(device)
        begun = time.perf_counter()
        torch.mm(a, b)
        wait_for(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * side**3 / min(seconds[1:])


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the GPU, or resident memory of this process so far, MB."""
    peak = device_peak_mb(device)
    return peak_resident_mb() if peak is None else peak
