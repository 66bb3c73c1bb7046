"""Stable Diffusion for one arm: adapters in the UNet's weights, its scheduler, floats out."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.generation.plan import Adapter, Arm
from vdm_pipeline.stages.models.diffusion import load_part, quiet_hf_logging
from vdm_pipeline.stages.models.loading import loading
from vdm_pipeline.stages.runtime.batch_size import AdaptiveBatchSize

DECODED = 8
"""Images that the VAE decodes at a time, by far its share of the memory; more are no faster."""
LEAST_CHANGE = 1e-5
"""An adapter whose update is smaller than this share of every layer's weights draws the same pixels as none."""


class Sampler:
    """The UNet, VAE and scheduler of an arm on one device; no text encoder, prompts come encoded."""

    def __init__(
        self,
        arm: Arm,
        device: torch.device,
        dtype: torch.dtype,
        batch_size: int,
        log: Callable[[str], None],
        *,
        compiled: bool = False,
    ) -> None:
        """Load and fuse; ``batch_size`` images pass together, or as many as fit the GPU's memory.

        Raises `ModelError` if a part is missing or an adapter changes nothing.
        """
        self.arm, self.device, self.dtype = arm, device, dtype
        self.fitting = AdaptiveBatchSize(
            batch_size, log, "set a smaller training.resolution, or generation.guidance_scale = 1"
        )
        unet, vae = load_unet_with_adapters(arm.base, arm.adapters), load_part(arm.base, "vae", dtype)
        fuse(unet, arm.adapters)
        with quiet_hf_logging():  # diffusers warns of every change of dtype
            self.unet = unet.to(device, dtype).to(memory_format=torch.channels_last)
        self.predict = torch.compile(self.unet) if compiled else self.unet
        self.vae = vae.to(device).to(memory_format=torch.channels_last)
        self.scheduler = _scheduler(arm)

    @torch.inference_mode()
    def draw(self, texts: torch.Tensor, seeds: Sequence[int]) -> NDArray[np.float32]:
        """Floats ``[n, size, size, 3]`` in [0, 1], NaN where a pixel is not finite.

        ``texts`` is ``[n, 77, d]``, or ``[2n, 77, d]`` with guidance: those of the empty prompt first. Every image has a
        generator of its own, on the CPU, so that it depends neither on the others nor on the device. Raises `PipelineError` if
        the GPU's memory does not hold one image.
        """
        of_prompt = texts.unflatten(0, (-1, len(seeds)))

        def draw(n: int) -> NDArray[np.float32]:
            starts = range(0, len(seeds), n)
            return np.concatenate(
                [self._draw(of_prompt[:, i : i + n].flatten(0, 1), seeds[i : i + n]) for i in starts]
            )

        return self.fitting(draw)

    def _draw(self, texts: torch.Tensor, seeds: Sequence[int]) -> NDArray[np.float32]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        latents = self._noise(generators)
        self.scheduler.set_timesteps(self.arm.num_inference_steps, device=self.device)
        for time in self.scheduler.timesteps:
            predicted = self._predict(self.scheduler.scale_model_input(latents, time), time, texts)
            latents = self.scheduler.step(predicted, time, latents, generator=generators, return_dict=False)[
                0
            ]
        scaled = (latents / self.vae.config.scaling_factor).split(DECODED)
        decoded = torch.cat([self.vae.decode(part, return_dict=False)[0].float() for part in scaled])
        images = torch.where(
            decoded.isfinite(), (decoded / 2 + 0.5).clamp(0, 1), torch.nan
        )  # the clamp would hide infinities
        return images.permute(0, 2, 3, 1).cpu().numpy()

    def _noise(self, generators: list[torch.Generator]) -> torch.Tensor:
        """Latents to start from, ``[n, 4, size/8, size/8]``."""
        from diffusers.utils.torch_utils import randn_tensor

        side = self.arm.size // (2 ** (len(self.vae.config.block_out_channels) - 1))
        shape = (len(generators), self.unet.config.in_channels, side, side)
        return (
            randn_tensor(shape, generator=generators, device=self.device, dtype=self.dtype)
            * self.scheduler.init_noise_sigma
        )

    def _predict(self, latents: torch.Tensor, time: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        scale = self.arm.guidance_scale
        if scale == 1:
            return self.predict(latents, time, texts, return_dict=False)[0]
        without, with_text = self.predict(torch.cat([latents, latents]), time, texts, return_dict=False)[
            0
        ].chunk(2)
        return without + scale * (with_text - without)


def load_unet_with_adapters(base: Path, adapters: Sequence[Adapter]) -> Any:
    """The base's UNet in fp32 with the adapters beside its weights.

    In fp32 on any device, as in half precision the sum of weight and update would lose most of a small update. Raises
    `ModelError` if an adapter is damaged, of another base, or changes nothing: a run without it would look like one with it.
    """
    from diffusers import StableDiffusionPipeline

    unet = load_part(base, "unet")
    if unet.config.time_cond_proj_dim is not None:
        raise ModelError(
            f"The UNet in {base} wants its guidance as an input; take a plain Stable Diffusion as training.base."
        )
    parts = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "scheduler", "safety_checker", "feature_extractor")
    )
    pipe = StableDiffusionPipeline(unet=unet, **parts, requires_safety_checker=False)
    for adapter in adapters:
        with loading(adapter.file), quiet_hf_logging():
            wanted = _layers_in(adapter.file)
            pipe.load_lora_weights(
                adapter.file.parent,
                weight_name=adapter.file.name,
                adapter_name=adapter.name,
                use_safetensors=True,
            )
        found = sum(adapter.name in getattr(module, "lora_A", {}) for module in unet.modules())
        if found < wanted:
            raise ModelError(
                f"{adapter.file} has {wanted} layers, of which the UNet in {base} has {found}; take an adapter of this base."
            )
    if adapters:
        pipe.set_adapters([adapter.name for adapter in adapters], [adapter.weight for adapter in adapters])
    check_adapter_active(unet, adapters)
    return unet


def _layers_in(file: Path) -> int:
    """How many layers of a UNet the adapter's file is for, whoever named its matrices; raises `ModelError` if there are none."""
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        names = [
            name
            for name in tensors.keys()
            if name.endswith(("lora_A.weight", "lora_down.weight", "lora.down.weight"))
        ]  # noqa: SIM118
    count = sum(not name.startswith(("text_encoder", "lora_te")) for name in names)
    if not count:
        raise ModelError(f"{file} holds no layer of a LoRA for a UNet; take another adapter.")
    return count


def fuse(unet: Any, adapters: Sequence[Adapter]) -> None:
    """Add the adapters, in their order, to the weights, which must be pristine, and remove their layers."""
    if adapters:
        unet.fuse_lora(adapter_names=[adapter.name for adapter in adapters])
        unet.unload_lora()


def check_adapter_active(unet: Any, adapters: Sequence[Adapter]) -> None:
    """Raise `ModelError` if an adapter holds NaN, is not active on any layer, or changes none by as much as `LEAST_CHANGE`."""
    for adapter in adapters:
        layers = [
            m
            for m in unet.modules()
            if adapter.name in getattr(m, "lora_B", {}) and adapter.name in m.active_adapters
        ]
        changes = [_relative_change(layer, adapter.name) for layer in layers]
        if not all(map(math.isfinite, changes)):
            raise ModelError(
                f"Weights of adapter '{adapter.name}' from {adapter.path}, or of its base, are not finite; train or fetch it again."
            )
        if not any(change >= LEAST_CHANGE for change in changes):
            raise ModelError(
                f"Adapter '{adapter.name}' from {adapter.path} is not active: it changes no layer of the UNet; train it again."
            )


@torch.no_grad()
def _relative_change(layer: Any, name: str) -> float:
    """Norm of the adapter's update over the norm of the layer's own weights."""
    up, down = layer.lora_B[name].weight.float().flatten(1), layer.lora_A[name].weight.float().flatten(1)
    return float(
        layer.scaling[name]
        * torch.linalg.norm(up @ down)
        / torch.linalg.norm(layer.get_base_layer().weight.float())
    )


def _scheduler(arm: Arm) -> Any:
    """``lcm``: that of the LCM-LoRA; ``dpm``: DPM-Solver++ (Lu et al., 2022), which adds no noise on its way."""
    from diffusers import DPMSolverMultistepScheduler, LCMScheduler

    kinds = {"lcm": LCMScheduler, "dpm": DPMSolverMultistepScheduler}
    return kinds[arm.scheduler].from_config(load_part(arm.base, "scheduler").config)
