"""Images and captions as the UNet reads them: latents and text embeddings, made once and kept by what they were made from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vdm_pipeline.io.hashing import folder_digest
from vdm_pipeline.io.tensors import write_tensors
from vdm_pipeline.stages.models.diffusion import encode_image, encode_prompts, load_part

CACHE_VERSION = 2
"""Raised when the code that encodes changes its result."""

LOG_EVERY = 500


@dataclass(frozen=True)
class Encoded:
    """Posterior mean and deviation ``[n or 2 n, 4, h, w]``, fp32, mirrored images behind the others; captions by place in ``text``.

    ``caption`` is ``[n]`` and ``text`` ``[captions, 77, d]`` in the UNet's dtype. It all lies in the device's memory: a step
    touches neither an image, nor the VAE, nor the text encoder.
    """

    n: int
    mean: torch.Tensor
    std: torch.Tensor
    caption: torch.Tensor
    text: torch.Tensor

    @property
    def latent(self) -> tuple[int, ...]:
        """Shape of one latent."""
        return tuple(self.mean.shape[1:])


@dataclass(frozen=True)
class Encoder:
    """The VAE and text encoder of ``base``, with a folder that keeps what they made.

    A key is the hash of the pixels and of everything that acts on them: size, the VAE's files, dtype. A changed pixel or
    model has another key, so nothing stale is ever read.
    """

    base: Path
    cache: Path
    size: int
    device: torch.device
    dtype: torch.dtype

    def encode(
        self, images: NDArray[np.uint8], captions: Sequence[str], *, flip: bool, log: Callable[[str], None]
    ) -> Encoded:
        """Uint8 images ``[n, h, w]`` or ``[n, h, w, 3]`` with a caption each; with ``flip`` their mirror images too."""
        both = np.concatenate([images, images[:, :, ::-1]]) if flip else images
        moments = self._latents(both, log)
        distinct = sorted(set(captions))
        place = {caption: index for index, caption in enumerate(distinct)}
        return Encoded(
            n=len(images),
            mean=moments[:, 0].to(self.device),
            std=moments[:, 1].to(self.device),
            caption=torch.tensor([place[caption] for caption in captions], device=self.device),
            text=self._texts(distinct).to(self.device, self.dtype),
        )

    def _latents(self, images: NDArray[np.uint8], log: Callable[[str], None]) -> torch.Tensor:
        """Mean and deviation ``[n, 2, 4, h, w]``; only what is not in the cache is encoded, in fp32."""
        context = f"{CACHE_VERSION} latent {self.size} float32 {folder_digest(self.base / 'vae')}"
        paths = [self._path(context, image.shape, np.ascontiguousarray(image).tobytes()) for image in images]
        found = {
            index: kept for index, path in enumerate(paths) if (kept := _read(path, "moments")) is not None
        }
        log(f"latents: {len(found)} of {len(images)} kept from before")
        missing = [index for index in range(len(images)) if index not in found]
        vae = load_part(self.base, "vae").to(self.device) if missing else None
        for count, index in enumerate(missing, 1):
            found[index] = encode_image(vae, images[index], self.size)
            _keep(paths[index], "moments", found[index])
            if count % LOG_EVERY == 0 or count == len(missing):
                log(f"latents: {count} of {len(missing)} encoded")
        return torch.stack([found[index] for index in range(len(images))])

    def _texts(self, captions: list[str]) -> torch.Tensor:
        """Text embeddings ``[captions, 77, d]``."""
        context = f"{CACHE_VERSION} text {self.dtype} {folder_digest(self.base / 'text_encoder')} {folder_digest(self.base / 'tokenizer')}"
        paths = [self._path(context, (), caption.encode()) for caption in captions]
        found = {index: kept for index, path in enumerate(paths) if (kept := _read(path, "text")) is not None}
        missing = [index for index in range(len(captions)) if index not in found]
        if missing:
            made = encode_prompts(
                self.base, [captions[index] for index in missing], self.device, self.dtype
            ).cpu()
            for index, value in zip(missing, made, strict=True):
                found[index] = value.contiguous()
                _keep(paths[index], "text", found[index])
        return torch.stack([found[index] for index in range(len(captions))])

    def _path(self, context: str, shape: tuple[int, ...], content: bytes) -> Path:
        key = hashlib.sha256(f"{context} {shape} ".encode() + content).hexdigest()
        return self.cache / key[:2] / f"{key}.safetensors"


def _keep(path: Path, name: str, tensor: torch.Tensor) -> None:
    write_tensors(path, {name: tensor}, {"sha256": _digest(tensor)})


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def _read(path: Path, name: str) -> torch.Tensor | None:
    """What was kept, or None where nothing was, or where it is not what was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensor, digest = file.get_tensor(name), (file.metadata() or {}).get("sha256")
    except (FileNotFoundError, SafetensorError):
        return None
    return tensor if digest == _digest(tensor) else None
