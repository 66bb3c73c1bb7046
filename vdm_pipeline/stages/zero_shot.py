"""Zero-shot classification by an open_clip model: text encoded once, images in batches, classes by position."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vdm_pipeline.errors import ModelError

Progress = Callable[[int, int], None]


def _no_progress(done: int, total: int) -> None:
    """Say nothing."""


class ZeroShot:
    """An open_clip model with one averaged, normalised text embedding a class."""

    def __init__(self, folder: Path, prompts: Sequence[Sequence[str]], device: torch.device) -> None:
        """Load the model in ``folder`` and encode ``prompts``: list i stands for class i, whatever its words say.

        Raises `ModelError` if the folder holds no open_clip model or a prompt is longer than the model reads.
        """
        import open_clip

        if not (folder / "open_clip_config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise ModelError(f"{folder} is no open_clip model: it needs open_clip_config.json and a .safetensors file.")
        name = f"local-dir:{folder}"
        self.device = device
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(name, precision="fp32", device=device)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.text = torch.stack([self._encode_text(list(group)) for group in prompts])

    @torch.inference_mode()
    def _encode_text(self, prompts: list[str]) -> torch.Tensor:
        """Mean of the prompts' unit embeddings, made a unit vector again (the ensemble of CLIP's paper, section 3.1.4)."""
        tokens = self.tokenizer(prompts)
        for prompt, length in zip(prompts, self._lengths(prompts), strict=True):
            if length > tokens.shape[1]:
                raise ModelError(f"Prompt '{prompt}' does not fit the labeller's {tokens.shape[1]} tokens; shorten it.")
        embeddings = self.model.encode_text(tokens.to(self.device), normalize=True)
        return torch.nn.functional.normalize(embeddings.mean(0), dim=0)

    def _lengths(self, prompts: list[str]) -> list[int]:
        """Tokens of each prompt with its start and end, told from the padding when there is twice the room that the model has.

        Some tokenizers pad with 0 and some with the end token, so the empty prompt, of two tokens, is the measure.
        """
        rows = self.tokenizer(["", *prompts], context_length=2 * self.tokenizer.context_length)
        filled = [int((row != row[-1]).nonzero().max()) for row in rows]
        return [2 + places - filled[0] for places in filled[1:]]

    @torch.inference_mode()
    def embed(self, images: NDArray[np.uint8], batch: int = 64, progress: Progress = _no_progress) -> NDArray[np.float32]:
        """Unit image embeddings ``[n, d]`` of uint8 images ``[n, h, w]`` or ``[n, h, w, 3]``."""
        parts = []
        for start in range(0, len(images), batch):
            pixels = torch.stack([self.preprocess(Image.fromarray(image)) for image in images[start : start + batch]])
            parts.append(self.model.encode_image(pixels.to(self.device), normalize=True).float().cpu().numpy())
            progress(min(start + batch, len(images)), len(images))
        return np.concatenate(parts)

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax over the classes of the scaled cosines, ``[n, classes]``."""
        logits = float(self.model.logit_scale.detach().exp()) * embeddings.astype(np.float64) @ self.text.double().cpu().numpy().T
        logits -= logits.max(1, keepdims=True)
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(1, keepdims=True)
