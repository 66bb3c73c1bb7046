"""Latents and text embeddings of images and captions, computed once and cached by content."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.io.progress import Log, Throttle
from vdm_pipeline.io.tensors import write_tensors
from vdm_pipeline.stages.models.diffusion import encode_image, encode_prompts, load_component

CACHE_VERSION = 2
"""Increase it when the code that encodes changes its result."""


@dataclass(frozen=True)
class Encoded:
    """Posterior mean and std of the latents ``[n or 2 n, 4, h, w]``, fp32; mirrored images follow the others.

    ``text`` ``[captions, 77, d]`` holds the distinct captions in the UNet's dtype; ``caption_index`` ``[n]``
    is each image's row in it. Everything is in the device's memory, so a training step needs no image, VAE
    or text encoder.
    """

    n: int
    mean: torch.Tensor
    std: torch.Tensor
    caption_index: torch.Tensor
    text: torch.Tensor

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent, ``(4, h, w)``."""
        return tuple(self.mean.shape[1:])


@dataclass(frozen=True)
class Encoder:
    """The VAE and text encoder of ``base``, with a cache folder.

    A cache key is the hash of the pixels and of all that decides their latents: size, dtype and the VAE's
    files. A changed pixel or model has another key, so the cache is never stale.
    """

    base: Path
    cache: Path
    size: int
    device: torch.device
    dtype: torch.dtype

    def encode(self, images: NDArray[np.uint8], captions: Sequence[str], *, flip: bool, log: Log) -> Encoded:
        """Encode uint8 images ``[n, h, w]`` or ``[n, h, w, 3]`` and their captions.

        With ``flip``, encode the mirrored images too.
        """
        if flip:
            moments = self._latents(np.concatenate([images, images[:, :, ::-1]]), log)
        else:
            moments = self._latents(images, log)
        distinct = sorted(set(captions))
        indices = {caption: index for index, caption in enumerate(distinct)}
        return Encoded(
            n=len(images),
            mean=moments[:, 0].to(self.device),
            std=moments[:, 1].to(self.device),
            caption_index=torch.tensor([indices[caption] for caption in captions], device=self.device),
            text=self._texts(distinct).to(self.device, self.dtype),
        )

    def _latents(self, images: NDArray[np.uint8], log: Log) -> torch.Tensor:
        """Posterior mean and std ``[n, 2, 4, h, w]``; the VAE encodes in fp32 what the cache lacks."""
        context = f"{CACHE_VERSION} latent {self.size} float32 {folder_digest(self.base / 'vae')}"
        paths = [self._path(context, image.shape, np.ascontiguousarray(image).tobytes()) for image in images]
        moments = _read_cached(paths, "moments")
        missing = [index for index in range(len(images)) if index not in moments]
        log(f"latent cache: {len(images) - len(missing)}/{len(images)} hits")
        if missing:
            vae, throttle = load_component(self.base, "vae").to(self.device), Throttle()
            for done, index in enumerate(missing, 1):
                moments[index] = encode_image(vae, images[index], self.size)
                _write(paths[index], "moments", moments[index])
                if throttle.due(done=done == len(missing)):
                    log(f"encoded {done}/{len(missing)} latents")
        return torch.stack([moments[index] for index in range(len(images))])

    def _texts(self, captions: list[str]) -> torch.Tensor:
        """Text embeddings ``[captions, 77, d]``."""
        text_encoder, tokenizer = (folder_digest(self.base / name) for name in ("text_encoder", "tokenizer"))
        context = f"{CACHE_VERSION} text {self.dtype} {text_encoder} {tokenizer}"
        paths = [self._path(context, (), caption.encode()) for caption in captions]
        texts = _read_cached(paths, "text")
        missing = [index for index in range(len(captions)) if index not in texts]
        if missing:
            prompts = [captions[index] for index in missing]
            encoded = encode_prompts(self.base, prompts, self.device, self.dtype).cpu()
            for index, value in zip(missing, encoded, strict=True):
                texts[index] = value.contiguous()
                _write(paths[index], "text", texts[index])
        return torch.stack([texts[index] for index in range(len(captions))])

    def _path(self, context: str, shape: tuple[int, ...], content: bytes) -> Path:
        key = hashlib.sha256(f"{context} {shape} ".encode() + content).hexdigest()
        return self.cache / key[:2] / f"{key}.safetensors"


def _write(path: Path, name: str, tensor: torch.Tensor) -> None:
    write_tensors(path, {name: tensor}, {"sha256": _digest(tensor)})


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _read_cached(paths: list[Path], name: str) -> dict[int, torch.Tensor]:
    """The intact cached tensors by their index in ``paths``."""
    tensors = {index: _read(path, name) for index, path in enumerate(paths)}
    return {index: tensor for index, tensor in tensors.items() if tensor is not None}


def _read(path: Path, name: str) -> torch.Tensor | None:
    """The cached tensor, or None if the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensor, digest = file.get_tensor(name), (file.metadata() or {}).get("sha256")
    except (FileNotFoundError, SafetensorError):
        return None
    return tensor if digest == _digest(tensor) else None
