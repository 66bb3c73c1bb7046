"""The spaces in which images are compared: functions from images to features, one of them not the labeller's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.models.loading import loading, reject_remote_code

Floats = NDArray[np.float64]
Embed = Callable[[NDArray[np.uint8]], NDArray[Any]]

SIDE, CELLS, ORIENTATIONS, REGIONS, COARSE = 64, 8, 8, 4, 8
COMPONENTS = 128
LEARNT_FROM = 1000
"""Images from which the handcrafted space learns what is usual; more change little."""


@dataclass(frozen=True)
class Space:
    """A named feature space; ``embed`` turns uint8 ``[n, h, w]`` or ``[n, h, w, 3]`` into ``[n, d]``."""

    title: str
    embed: Embed

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        """Features ``[n, d]`` with a mean square of 1 a row: unit vectors times the root of ``d``."""
        features = np.asarray(self.embed(images), np.float64)
        norm = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features / norm * np.sqrt(features.shape[1])


def handcrafted(real: NDArray[np.uint8], seed: int) -> Space:
    """Shape, texture and light of grey images, without any network; ``real`` says what is usual and what varies together.

    Each block is centred and scaled by ``real``, weighs the same however many numbers it has, and the whole is turned to at
    most 128 principal components, as in radiomics distances (Konz et al., 2024).
    """
    rows = np.random.default_rng(seed).permutation(len(real))[:LEARNT_FROM]
    blocks = _blocks(real[rows])
    means, spreads = (
        [block.mean(0) for block in blocks],
        [np.maximum(block.std(0), 0.05 * block.std() + 1e-9) for block in blocks],
    )

    def scaled(images: NDArray[np.uint8]) -> Floats:
        parts = zip(_blocks(images), means, spreads, strict=True)
        return np.concatenate(
            [(block - mean) / spread / np.sqrt(block.shape[1]) for block, mean, spread in parts], axis=1
        )

    _, _, directions = np.linalg.svd(scaled(real[rows]), full_matrices=False)
    turn = directions[:COMPONENTS].T
    return Space(
        "handcrafted: oriented gradients, local binary patterns and light",
        lambda images: scaled(images) @ turn,
    )


def _blocks(images: NDArray[np.uint8]) -> list[Floats]:
    """Oriented gradients (Dalal and Triggs, 2005) ``[n, 512]``, local binary patterns by region (Ojala et al., 2002)
    ``[n, 160]``, and light ``[n, 64]`` of images brought to 64 pixels."""
    from skimage.feature import hog

    grey = resize(to_grey(images), SIDE)
    size = SIDE // CELLS
    gradients = [hog(image, ORIENTATIONS, (size, size), (1, 1), feature_vector=True) for image in grey]
    patterns = [_patterns(image) for image in grey]
    light = (
        grey.reshape(len(grey), COARSE, SIDE // COARSE, COARSE, SIDE // COARSE)
        .mean((2, 4))
        .reshape(len(grey), -1)
    )
    return [np.stack(gradients), np.stack(patterns), light]


def _patterns(image: NDArray[np.uint8]) -> Floats:
    """Histograms of the uniform patterns of 8 neighbours in 4 x 4 regions, ``[160]``."""
    from skimage.feature import local_binary_pattern

    codes = local_binary_pattern(image, 8, 1, "uniform").astype(int)
    side = len(codes) // REGIONS
    regions = codes.reshape(REGIONS, side, REGIONS, side).transpose(0, 2, 1, 3).reshape(REGIONS**2, -1)
    return np.concatenate([np.bincount(region, minlength=10) / region.size for region in regions])


class Network:
    """A vision transformer from a local folder in transformers' format, such as DINOv2 or RAD-DINO."""

    def __init__(self, folder: Path, device: Any) -> None:
        """Load the model; safetensors alone. Raises `ModelError` if it is damaged, of another kind, or brings code."""
        from transformers import AutoImageProcessor, AutoModel

        self.device = device
        reject_remote_code(folder)
        with loading(folder):
            self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            self.model = (
                AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
                .eval()
                .to(device)
            )

    def embed(
        self, images: NDArray[np.uint8], batch: int, progress: Callable[[int, int], None]
    ) -> NDArray[np.float32]:
        """The class token after the last layer, ``[n, d]``."""
        import torch

        parts = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            colour = part if part.ndim == 4 else np.repeat(part[..., None], 3, axis=3)
            inputs = self.processor(list(colour), return_tensors="pt").to(self.device)
            with torch.inference_mode():
                parts.append(self.model(**inputs).last_hidden_state[:, 0].float().cpu().numpy())
            progress(min(start + batch, len(images)), len(images))
        return np.concatenate(parts)
