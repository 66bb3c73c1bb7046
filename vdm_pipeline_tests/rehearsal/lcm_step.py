"""One step of LCM and one decoding at the large profile's size: ``python -m vdm_pipeline_tests.rehearsal.lcm_step FOLDER [--batch 1]``.

FOLDER is that of the rehearsal. Seconds are medians; the share is of a matrix product's speed, measured in the same process.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.runtime.device import device_facts, pick_device, pick_dtype, wait_for
from vdm_pipeline.stages.training.mfu import peak_flops, peak_memory_mb

ROUNDS = 5


def seconds(device: torch.device, compute: Callable[[], object]) -> float:
    """Median of five, after one to warm up."""
    taken = []
    for _ in range(ROUNDS + 1):
        wait_for(device)
        begun = time.perf_counter()
        compute()
        wait_for(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def flops(base: Path, latents: torch.Tensor, texts: torch.Tensor) -> float:
    """Of one pass of the UNet, 2 a multiply-add, counted without memory."""
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))
        unet(torch.empty(latents.shape), 500, torch.empty(texts.shape), return_dict=False)
    return float(counter.get_total_flops())


@torch.inference_mode()
def main() -> None:
    """Load, fuse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    asked, profile = parser.parse_args(), load_profile("sd15")
    base, lcm = (
        asked.folder / "repositories" / pin.id.replace("/", "--")
        for pin in (profile.training.base, profile.generation.lcm_lora)
    )
    device = pick_device("auto")
    dtype, side = pick_dtype(device), profile.training.resolution // 8
    adapters = [Adapter("lcm", lcm, 1.0)]
    unet = load_unet_with_adapters(base, adapters)
    fuse(unet, adapters)
    unet = unet.to(device, dtype).to(memory_format=torch.channels_last)
    vae = load_component(base, "vae", dtype).to(device).to(memory_format=torch.channels_last)
    latents = torch.randn(asked.batch, 4, side, side).to(device, dtype)
    texts = torch.randn(asked.batch, 77, unet.config.cross_attention_dim).to(device, dtype)
    predict = torch.compile(unet) if asked.compile else unet
    step = seconds(device, lambda: predict(latents, 500, texts, return_dict=False))
    decoding = seconds(device, lambda: vae.decode(latents, return_dict=False))
    work, peak = flops(base, latents, texts), peak_flops(device, dtype)
    print(f"{device_facts(device)}, {asked.batch} images at {profile.training.resolution} px")
    print(
        f"LCM step: {step:.3f} s, {work / 1e9:.0f} GFLOP, {work / step / peak:.2f} of a matrix product's {peak / 1e9:.0f} GFLOP a second"
    )
    image = (profile.generation.num_inference_steps * step + decoding) / asked.batch
    print(
        f"decoding: {decoding:.3f} s; an image of {profile.generation.num_inference_steps} steps: {image:.2f} s"
    )
    print(f"peak memory: {peak_memory_mb(device):.0f} MB")


if __name__ == "__main__":
    main()
