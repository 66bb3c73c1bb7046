"""Time of an LCM step of the large profile: ``python -m vdm_pipeline_tests.rehearsal.lcm_step FOLDER``.

FOLDER is that of the rehearsal. Seconds are medians. The share is that of the speed of a large matrix
product, which is measured in the same process. The decoding of an image is timed, too.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.generation.adapters import fuse, load_unet_with_adapters
from vdm_pipeline.stages.generation.plan import Adapter
from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.runtime.device import device_facts, pick_device, pick_dtype, wait_for
from vdm_pipeline.stages.training.mfu import peak_flops, peak_memory_mb

ROUNDS = 5


def seconds(device: torch.device, compute: Callable[[], object]) -> float:
    """Median of five runs, after one to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        wait_for(device)
        start = time.perf_counter()
        compute()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def flops(base: Path, latents: torch.Tensor, texts: torch.Tensor) -> float:
    """FLOP of one forward pass of the UNet, 2 per multiply-add, counted without allocating memory."""
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(base / "unet"))
        unet(torch.empty(latents.shape), 500, torch.empty(texts.shape), return_dict=False)
    return float(counter.get_total_flops())


def load(folder: Path, profile: Profile, device: torch.device) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The UNet with the fused LCM-LoRA, and the autoencoder."""
    base, lcm = model_folders(folder, profile)
    adapters, dtype = [Adapter("lcm", lcm, 1.0)], pick_dtype(device)
    unet = load_unet_with_adapters(base, adapters)
    fuse(unet, adapters)
    vae = load_component(base, "vae", dtype)
    return (
        unet.to(device, dtype).to(memory_format=torch.channels_last),
        vae.to(device).to(memory_format=torch.channels_last),
    )


def model_folders(folder: Path, profile: Profile) -> tuple[Path, Path]:
    """The base and the LCM-LoRA that the rehearsal wrote."""
    ids = profile.training.base.id, profile.generation.lcm_lora.id
    base, lcm = (folder / "repositories" / name.replace("/", "--") for name in ids)
    return base, lcm


@torch.inference_mode()
def main() -> None:
    """Load, fuse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    arguments, profile = parser.parse_args(), load_profile("sd15")
    device, batch = pick_device("auto"), arguments.batch
    dtype, side = pick_dtype(device), profile.training.resolution // 8
    unet, vae = load(arguments.folder, profile, device)
    latents = torch.randn(batch, 4, side, side).to(device, dtype)
    texts = torch.randn(batch, 77, unet.config.cross_attention_dim).to(device, dtype)
    predict = torch.compile(unet) if arguments.compile else unet
    step = seconds(device, lambda: predict(latents, 500, texts, return_dict=False))
    decoding = seconds(device, lambda: vae.decode(latents, return_dict=False))
    base, _ = model_folders(arguments.folder, profile)
    work, peak = flops(base, latents, texts), peak_flops(device, dtype)
    steps = profile.generation.num_inference_steps
    print(f"{device_facts(device)}, {batch} images at {profile.training.resolution} px")
    print(
        f"LCM step: {step:.3f} s, {work / 1e9:.0f} GFLOP, {work / step / peak:.2f} of a large matmul's",
        end=" ",
    )
    print(f"{peak / 1e9:.0f} GFLOP/s")
    print(
        f"decoding: {decoding:.3f} s; one image of {steps} steps: {(steps * step + decoding) / batch:.2f} s"
    )
    print(f"peak memory: {peak_memory_mb(device):.0f} MB")


if __name__ == "__main__":
    main()
