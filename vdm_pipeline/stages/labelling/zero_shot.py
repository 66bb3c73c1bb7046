"""Zero-shot classification with an open_clip model: unit embeddings of images and of class prompts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.progress import Progress
from vdm_pipeline.stages.models.clip_conversion import TEXT
from vdm_pipeline.stages.models.loading import loading, reject_remote_code


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""


class ZeroShot:
    """An open_clip model from a local folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model.

        Raises `ModelError` if the folder is not an open_clip model, is damaged, or contains a pickle or code.
        """
        import open_clip

        _check_folder(folder)
        name, text_config = f"local-dir:{folder}", _text_config(folder)
        self.device = device
        with loading(folder):
            model = open_clip.create_model(name, precision="fp32", device=device, **text_config)
            self.model = model.eval()
            self.tokenizer = open_clip.get_tokenizer(name)
            config = open_clip.get_model_preprocess_cfg(self.model)
        self.size = config["size"] if isinstance(config["size"], int) else config["size"][0]
        self.interpolation = config["interpolation"]
        self.mean, self.std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    @property
    def scale(self) -> float:
        """The model's logit scale, which multiplies cosines."""
        return float(self.model.logit_scale.detach().exp())

    def preprocess(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Float32 ``[n, 3, size, size]`` from square uint8 images ``[n, s, s]`` or ``[n, s, s, 3]``.

        Equals open_clip's transform, for a whole batch: it differs from Pillow's resizing by at most two grey
        levels, in few pixels. Bytes are resized on the CPU, so that the result is the same on any device.
        Grey images are resized once, not three times.
        """
        x = torch.from_numpy(np.ascontiguousarray(images))
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        if x.shape[2] != x.shape[3]:
            raise ValueError(f"images are {x.shape[2]} x {x.shape[3]}; they must be square")
        if x.shape[-1] != self.size:
            x = F.interpolate(x, self.size, mode=self.interpolation, align_corners=False, antialias=True)
        return x.float().div_(255).sub(self.mean).div_(self.std)

    @torch.inference_mode()
    def embed(
        self, images: NDArray[np.uint8], batch_size: int = 64, progress: Progress = _no_progress
    ) -> NDArray[np.float32]:
        """Unit embeddings ``[n, d]`` of square uint8 images ``[n, s, s]`` or ``[n, s, s, 3]``."""
        parts = []
        for start in range(0, len(images), batch_size):
            batch = self.preprocess(images[start : start + batch_size]).to(self.device)
            parts.append(self.model.encode_image(batch, normalize=True).float().cpu().numpy())
            progress(min(start + batch_size, len(images)), len(images))
        return np.concatenate(parts)

    def encode_prompts(self, prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """One unit vector per class, ``[classes, d]``; ``prompts[i]`` are the prompts of class i.

        Raises `ModelError` for a prompt that is longer than the context, which the tokenizer would truncate
        silently.
        """
        return np.stack([self._encode_ensemble(list(group)) for group in prompts])

    @torch.inference_mode()
    def _encode_ensemble(self, prompts: list[str]) -> NDArray[np.float32]:
        """Normalized mean of the prompts' unit embeddings (the ensemble of the CLIP paper, section 3.1.4)."""
        tokens = self.tokenizer(prompts)
        limit = tokens.shape[1]
        for prompt, length in zip(prompts, self._lengths(prompts), strict=True):
            if length > limit:
                raise ModelError(f"Prompt '{prompt}' does not fit the labeller's {limit} tokens; shorten it.")
        embeddings = self.model.encode_text(tokens.to(self.device), normalize=True)
        return F.normalize(embeddings.mean(0), dim=0).float().cpu().numpy()

    def _lengths(self, prompts: list[str]) -> list[int]:
        """Tokens of each prompt including start and end, measured with twice the model's context length.

        Some tokenizers pad with 0, some with the end token; the empty prompt, of two tokens, is the
        reference.
        """
        rows = self.tokenizer(["", *prompts], context_length=2 * self.tokenizer.context_length)
        last_token = [int((row != row[-1]).nonzero().max()) for row in rows]
        return [2 + position - last_token[0] for position in last_token[1:]]


def _check_folder(folder: Path) -> None:
    """Raise `ModelError` unless the folder is an open_clip model in safetensors, without pickles or code."""
    if not (folder / "open_clip_config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} is not an open_clip model: it needs open_clip_config.json and a .safetensors file."
        )
    for pattern in ("*.bin", "*.pth"):
        for path in folder.glob(pattern):  # open_clip may prefer it to the .safetensors file
            raise ModelError(
                f"{path} may be a pickle, which is never read; keep only the .safetensors file, "
                "and pin the folder again."
            )
    reject_remote_code(folder)


def _text_config(folder: Path) -> dict[str, Any]:
    """The override of open_clip's text configuration if the text tower is a transformers model, else empty.

    The override names the copy of the tower's configuration in the folder instead of a hub repository, where
    no revision could be pinned.
    """
    with loading(folder):
        config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        text = config["model_cfg"]["text_cfg"]
    if "hf_model_name" not in text:
        return {}
    if not (folder / TEXT / "config.json").is_file():
        raise ModelError(
            f"{folder / TEXT} lacks config.json of '{text['hf_model_name']}', the text tower's model; "
            "put it there and pin the folder again, or name that repository in labelling.text_model."
        )
    return {"text_cfg": text | {"hf_model_name": str(folder / TEXT), "hf_model_pretrained": False}}


def logits(embeddings: NDArray[np.float32], text: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    """Scaled cosines ``[n, classes]`` of unit embeddings ``[n, d]`` and text vectors ``[classes, d]``."""
    return scale * (embeddings @ text.T).astype(np.float64)
