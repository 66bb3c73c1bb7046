"""Load the components of a Stable Diffusion folder, and encode images and prompts for the UNet."""

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
    """Hide progress bars and warnings of diffusers and transformers while loading; errors still show.

    diffusers warns about "missing" weights when it loads a second adapter; we check the weights ourselves.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_level = diffusers_logging.get_verbosity()
    transformers_level = transformers_logging.get_verbosity()
    had_progress_bar = transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            yield
    finally:
        diffusers_logging.set_verbosity(diffusers_level)
        transformers_logging.set_verbosity(transformers_level)
        if had_progress_bar:
            transformers_logging.enable_progress_bar()


def load_component(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` or ``scheduler``, weights from safetensors.

    Raises `ModelError` if the component is missing or damaged, or lacks weights or a vocabulary: the
    libraries would fill these in at random.
    """
    path = folder / name
    if not path.is_dir():
        raise ModelError(
            f"{folder} is not a Stable Diffusion folder: it lacks '{name}'; "
            "correct training.base in the profile."
        )
    if name == "tokenizer" and not any((path / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        raise ModelError(f"{path} lacks its vocabulary, tokenizer.json or vocab.json; fetch it again.")
    with loading(path), quiet_hf_logging():
        return _load(path, dtype)


def _load(path: Path, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    if path.name == "tokenizer":
        return CLIPTokenizer.from_pretrained(path, model_max_length=77, local_files_only=True)
    if path.name == "scheduler":
        return DDPMScheduler.from_pretrained(path, local_files_only=True)
    classes = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    model, report = classes[path.name].from_pretrained(
        path, use_safetensors=True, torch_dtype=dtype, output_loading_info=True, local_files_only=True
    )
    missing = report["missing_keys"]
    if missing:
        raise ModelError(f"{path} lacks {len(missing)} weights, such as {min(missing)}; fetch it again.")
    return model.eval().requires_grad_(False)


def to_pixel_values(images: NDArray[np.uint8], size: int) -> torch.Tensor:
    """Uint8 ``[n, h, w]`` or ``[n, h, w, 3]`` to float32 ``[n, 3, size, size]`` in [-1, 1]."""
    resized = resize(images, size)
    tensor = torch.from_numpy(np.ascontiguousarray(resized)).float().div(127.5).sub(1)
    if tensor.ndim == 3:
        return tensor[:, None].expand(-1, 3, -1, -1)
    return tensor.permute(0, 3, 1, 2).contiguous()  # a channels-last input makes channels-last latents


@torch.inference_mode()
def encode_image(vae: Any, image: NDArray[np.uint8], size: int) -> torch.Tensor:
    """Mean and std of the scaled latent's posterior, float32 ``[2, 4, size/8, size/8]``, on the CPU.

    Keeping the posterior instead of one sample lets each training step sample it, as without a cache. Images
    are encoded one at a time, so that the bits of a latent do not depend on its batch.
    """
    pixel_values = to_pixel_values(image[None], size).to(vae.device, vae.dtype)
    posterior = vae.encode(pixel_values).latent_dist
    return torch.cat([posterior.mean, posterior.std]).float().cpu() * vae.config.scaling_factor


@torch.inference_mode()
def encode_prompts(
    folder: Path, prompts: list[str], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Text embeddings ``[prompts, 77, d]``, encoded one at a time; the text encoder is freed afterwards.

    Raises `ModelError` for a prompt of more than 77 tokens, which the tokenizer would truncate silently.
    """
    tokenizer = load_component(folder, "tokenizer")
    limit = tokenizer.model_max_length
    for prompt in prompts:
        length = len(tokenizer(prompt)["input_ids"])
        if length > limit:
            raise ModelError(f"Prompt '{prompt}' has {length} tokens of at most {limit}; shorten it.")
    encoder = load_component(folder, "text_encoder", dtype).to(device)
    tokens = tokenizer(prompts, padding="max_length", max_length=limit, return_tensors="pt")
    embeddings = [encoder(ids[None].to(device)).last_hidden_state for ids in tokens["input_ids"]]
    return torch.cat(embeddings)
