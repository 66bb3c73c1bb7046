"""Zero-shot classification by an open_clip model: images to unit embeddings in batches, each class's text encoded once."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.models.clip_conversion import TEXT
from vdm_pipeline.stages.models.loading import loading, reject_remote_code

Progress = Callable[[int, int], None]


def _no_progress(done: int, total: int) -> None:
    """Say nothing."""


class ZeroShot:
    """An open_clip model from a local folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model. Raises `ModelError` if the folder holds no open_clip model, a damaged one, a pickle, or code."""
        import open_clip

        if not (folder / "open_clip_config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder} is no open_clip model: it needs open_clip_config.json and a .safetensors file."
            )
        pickled = next((path for pattern in ("*.bin", "*.pth") for path in folder.glob(pattern)), None)
        if pickled:  # open_clip would rather read it than a .safetensors file of some names
            raise ModelError(
                f"{pickled} may be a pickle, which is never read; keep the .safetensors file alone, and pin the folder anew."
            )
        reject_remote_code(folder)
        name, towers = f"local-dir:{folder}", _text_tower(folder)
        self.device = device
        with loading(folder):
            self.model = open_clip.create_model(name, precision="fp32", device=device, **towers).eval()
            self.tokenizer = open_clip.get_tokenizer(name)
            config = open_clip.get_model_preprocess_cfg(self.model)
        self.size = config["size"] if isinstance(config["size"], int) else config["size"][0]
        self.interpolation = config["interpolation"]
        self.mean, self.std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    @property
    def scale(self) -> float:
        """By how much the model multiplies cosines to have logits."""
        return float(self.model.logit_scale.detach().exp())

    def pixels(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """What open_clip's own transform makes of square uint8 images ``[n, s, s]`` or ``[n, s, s, 3]``, all at once.

        Float32 ``[n, 3, size, size]``. Resizing is done on bytes and on the CPU, so that the result is the same on any device;
        it differs from Pillow's by two grey levels at most, and in few pixels. Grey images are resized once, not three times.
        """
        x = torch.from_numpy(np.ascontiguousarray(images))
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        if x.shape[2] != x.shape[3]:
            raise ValueError(f"images are {x.shape[2]} x {x.shape[3]}; square ones are needed")
        if x.shape[-1] != self.size:
            x = F.interpolate(x, self.size, mode=self.interpolation, align_corners=False, antialias=True)
        return x.float().div_(255).sub(self.mean).div_(self.std)

    @torch.inference_mode()
    def embed(
        self, images: NDArray[np.uint8], batch: int = 64, progress: Progress = _no_progress
    ) -> NDArray[np.float32]:
        """Unit embeddings ``[n, d]`` of square uint8 images ``[n, s, s]`` or ``[n, s, s, 3]``."""
        parts = []
        for start in range(0, len(images), batch):
            pixels = self.pixels(images[start : start + batch]).to(self.device)
            parts.append(self.model.encode_image(pixels, normalize=True).float().cpu().numpy())
            progress(min(start + batch, len(images)), len(images))
        return np.concatenate(parts)

    def encode_prompts(self, prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """One unit vector a class, ``[classes, d]``: list i of ``prompts`` stands for class i, whatever its words say.

        Raises `ModelError` if a prompt is longer than the model reads: its end would be cut in silence.
        """
        return np.stack([self._ensemble(list(group)) for group in prompts])

    @torch.inference_mode()
    def _ensemble(self, prompts: list[str]) -> NDArray[np.float32]:
        """Mean of the prompts' unit embeddings, made a unit vector again (the ensemble of CLIP's paper, section 3.1.4)."""
        tokens = self.tokenizer(prompts)
        for prompt, length in zip(prompts, self._lengths(prompts), strict=True):
            if length > tokens.shape[1]:
                raise ModelError(
                    f"Prompt '{prompt}' does not fit the labeller's {tokens.shape[1]} tokens; shorten it."
                )
        embeddings = self.model.encode_text(tokens.to(self.device), normalize=True)
        return F.normalize(embeddings.mean(0), dim=0).float().cpu().numpy()

    def _lengths(self, prompts: list[str]) -> list[int]:
        """Tokens of each prompt with its start and end, told from the padding when there is twice the room that the model has.

        Some tokenizers pad with 0 and some with the end token, so the empty prompt, of two tokens, is the measure.
        """
        rows = self.tokenizer(["", *prompts], context_length=2 * self.tokenizer.context_length)
        filled = [int((row != row[-1]).nonzero().max()) for row in rows]
        return [2 + places - filled[0] for places in filled[1:]]


def _text_tower(folder: Path) -> dict[str, Any]:
    """What open_clip is told beside the folder's configuration, which may name a hub's repository for the text tower to be built after.

    The copy of that in the folder is named in its place: nothing is asked of a hub here, where no revision could be pinned.
    """
    with loading(folder):
        text = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"][
            "text_cfg"
        ]
    if "hf_model_name" not in text:
        return {}
    if not (folder / TEXT / "config.json").is_file():
        raise ModelError(
            f"The text tower of {folder} is built after '{text['hf_model_name']}', whose config.json is to stand in {folder / TEXT}; "
            "put it there and pin the folder anew, or name that repository in labelling.text_model."
        )
    return {"text_cfg": text | {"hf_model_name": str(folder / TEXT), "hf_model_pretrained": False}}


def logits(embeddings: NDArray[np.float32], text: NDArray[np.float32], scale: float) -> NDArray[np.float64]:
    """Scaled cosines ``[n, classes]`` of unit embeddings ``[n, d]`` and unit text vectors ``[classes, d]``."""
    return scale * (embeddings @ text.T).astype(np.float64)
