"""The parts of a Stable Diffusion folder, loaded once, and images and prompts turned into what the UNet reads."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.models.loading import loading


@contextmanager
def quiet_hf_logging() -> Iterator[None]:
    """Keep diffusers' and transformers' bars and warnings out of the log while loading; errors still come through.

    Loading a second adapter, diffusers warns that the first one's weights are "missing"; what matters is checked by us.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = (
        diffusers_logging.get_verbosity(),
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            yield
    finally:
        diffusers_logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
        if before[2]:
            transformers_logging.enable_progress_bar()


def load_part(folder: Path, part: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` or ``scheduler`` of the folder; weights from safetensors alone.

    Raises `ModelError` if the folder lacks the part, or the part is damaged or lacks weights or words: the libraries would fill
    these in at random.
    """
    if not (folder / part).is_dir():
        raise ModelError(
            f"{folder} is no Stable Diffusion folder: it lacks '{part}'; correct training.base in the profile."
        )
    if part == "tokenizer" and not any(
        (folder / part / name).is_file() for name in ("tokenizer.json", "vocab.json")
    ):
        raise ModelError(
            f"{folder / part} lacks its vocabulary, tokenizer.json or vocab.json; fetch it again."
        )
    with loading(folder / part), quiet_hf_logging():
        return _load(folder / part, dtype)


def _load(folder: Path, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    if folder.name == "tokenizer":
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77, local_files_only=True)
    if folder.name == "scheduler":
        return DDPMScheduler.from_pretrained(folder, local_files_only=True)
    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}[folder.name]
    model, report = kind.from_pretrained(
        folder, use_safetensors=True, torch_dtype=dtype, output_loading_info=True, local_files_only=True
    )
    if report["missing_keys"]:
        raise ModelError(
            f"{folder} lacks {len(report['missing_keys'])} weights, such as {min(report['missing_keys'])}; fetch it again."
        )
    return model.eval().requires_grad_(False)


def pixels(images: NDArray[np.uint8], size: int) -> torch.Tensor:
    """Uint8 ``[n, h, w]`` or ``[n, h, w, 3]`` to float32 ``[n, 3, size, size]`` in [-1, 1]."""
    sized = resize(images, size)
    tensor = torch.from_numpy(np.ascontiguousarray(sized)).float().div(127.5).sub(1)
    return tensor[:, None].expand(-1, 3, -1, -1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


@torch.inference_mode()
def encode_image(vae: Any, image: NDArray[np.uint8], size: int) -> torch.Tensor:
    """Mean and deviation of the scaled latent's posterior, float32 ``[2, 4, size/8, size/8]``, on the CPU.

    The posterior, not one sample of it, is kept: each training step then draws anew, as without a cache. Images pass one by
    one, so that the bits of a latent do not depend on which others were encoded beside it.
    """
    posterior = vae.encode(pixels(image[None], size).to(vae.device, vae.dtype)).latent_dist
    return torch.cat([posterior.mean, posterior.std]).float().cpu() * vae.config.scaling_factor


@torch.inference_mode()
def encode_prompts(
    folder: Path, prompts: list[str], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Text embeddings ``[prompts, 77, d]``, each made by itself as latents are; the text encoder is dropped afterwards.

    Raises `ModelError` for a prompt that does not fit the encoder's 77 tokens: its end would be cut in silence.
    """
    tokenizer = load_part(folder, "tokenizer")
    for prompt in prompts:
        length = len(tokenizer(prompt)["input_ids"])
        if length > tokenizer.model_max_length:
            raise ModelError(
                f"Prompt '{prompt}' has {length} tokens of at most {tokenizer.model_max_length}; shorten it."
            )
    encoder = load_part(folder, "text_encoder", dtype).to(device)
    tokens = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return torch.cat([encoder(one[None].to(device)).last_hidden_state for one in tokens["input_ids"]])
