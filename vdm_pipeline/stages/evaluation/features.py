"""Feature spaces in which images are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import resize
from vdm_pipeline.io.progress import Progress
from vdm_pipeline.stages.data.grey import channels_of, to_grey, with_channels
from vdm_pipeline.stages.models.loading import loading, reject_remote_code

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]
Embed = Callable[[Images], NDArray[Any]]

SIDE = 64
"""Pixels, of the images from which handcrafted features are computed."""
HOG_CELLS, ORIENTATIONS = 8, 8
PATTERN_REGIONS = 4
LIGHT_CELLS = 8
COMPONENTS = 128
GREY_TITLE = "handcrafted: oriented gradients, local binary patterns and light"
COLOUR_TITLE = "handcrafted: oriented gradients, local binary patterns, light and colour"
MAX_FIT_IMAGES = 1000
"""Images to which the handcrafted space is fitted; more change little."""


@dataclass(frozen=True)
class Space:
    """A named feature space; ``embed`` maps uint8 ``[n, h, w]`` or ``[n, h, w, 3]`` to ``[n, d]``."""

    title: str
    embed: Embed

    def __call__(self, images: Images) -> Floats:
        """Features ``[n, d]`` with a mean square of 1 per row: unit vectors times the root of ``d``."""
        features = np.asarray(self.embed(images), np.float64)
        norm = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features / norm * np.sqrt(features.shape[1])


def handcrafted(real: Images, seed: int) -> Space:
    """Shape, texture and light, and colour if ``real`` is in colour, without a network, fitted to ``real``.

    Each block of features is standardized over ``real`` and has the same weight, whatever its length. The
    result is projected to at most 128 principal components, as in radiomics distances (Konz et al., 2024).
    """
    rows = np.random.default_rng(seed).permutation(len(real))[:MAX_FIT_IMAGES]
    channels = channels_of(real)
    blocks = feature_blocks(real[rows], channels)
    means = [block.mean(0) for block in blocks]
    stds = [np.maximum(block.std(0), 0.05 * block.std() + 1e-9) for block in blocks]

    def standardize(images: Images) -> Floats:
        parts = zip(feature_blocks(images, channels), means, stds, strict=True)
        scaled = [(block - mean) / std / np.sqrt(block.shape[1]) for block, mean, std in parts]
        return np.concatenate(scaled, axis=1)

    _, _, directions = np.linalg.svd(standardize(real[rows]), full_matrices=False)
    projection = directions[:COMPONENTS].T
    return Space(
        GREY_TITLE if channels == 1 else COLOUR_TITLE,
        lambda images: standardize(images) @ projection,
    )


def feature_blocks(images: Images, channels: Literal[1, 3] = 1) -> list[Floats]:
    """Handcrafted features of images resized to 64 pixels.

    Oriented gradients (Dalal and Triggs, 2005) ``[n, 512]``, local binary patterns by region (Ojala et al.,
    2002) ``[n, 160]``, and light ``[n, 64]``; with three channels also colour ``[n, 128]``.
    """
    grey = resize(to_grey(images), SIDE)
    gradients = np.stack([_gradients(image) for image in grey])
    patterns = np.stack([_patterns(image) for image in grey])
    blocks = [gradients, patterns, _light(grey)]
    return blocks if channels == 1 else [*blocks, _colour(resize(with_channels(images, 3), SIDE))]


def _gradients(image: Images) -> Floats:
    """Histograms of oriented gradients in 8 x 8 cells, ``[512]``."""
    from skimage.feature import hog

    cell = (SIDE // HOG_CELLS, SIDE // HOG_CELLS)
    return hog(image, ORIENTATIONS, cell, (1, 1), feature_vector=True)


def _patterns(image: Images) -> Floats:
    """Histograms of the uniform patterns of 8 neighbours in 4 x 4 regions, ``[160]``."""
    from skimage.feature import local_binary_pattern

    codes = local_binary_pattern(image, 8, 1, "uniform").astype(int)
    side = len(codes) // PATTERN_REGIONS
    grid = codes.reshape(PATTERN_REGIONS, side, PATTERN_REGIONS, side).transpose(0, 2, 1, 3)
    regions = grid.reshape(PATTERN_REGIONS**2, -1)
    return np.concatenate([np.bincount(region, minlength=10) / region.size for region in regions])


def _light(grey: Images) -> Floats:
    """Mean grey level of 8 x 8 cells, ``[n, 64]``."""
    side = SIDE // LIGHT_CELLS
    cells = grey.reshape(len(grey), LIGHT_CELLS, side, LIGHT_CELLS, side)
    return cells.mean((2, 4)).reshape(len(grey), -1)


def _colour(images: Images) -> Floats:
    """Mean differences of red and blue from green in 8 x 8 cells, ``[n, 128]``."""
    red, green, blue = (_light(images[..., channel]) for channel in range(3))
    return np.concatenate([red - green, blue - green], axis=1)


class VisionTransformer:
    """A vision transformer from a local folder in the format of transformers, such as DINOv2 or RAD-DINO."""

    def __init__(self, folder: Path, device: Any) -> None:
        """Load the model from safetensors.

        Raises `ModelError` if it is damaged, of an unknown architecture, or needs remote code.
        """
        from transformers import AutoImageProcessor, AutoModel

        self.device = device
        reject_remote_code(folder)
        with loading(folder):
            self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            self.model = model.eval().to(device)

    def embed(self, images: Images, batch_size: int, progress: Progress) -> NDArray[np.float32]:
        """The class token of the last layer, ``[n, d]``."""
        import torch

        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            rgb = batch if batch.ndim == 4 else np.repeat(batch[..., None], 3, axis=3)
            inputs = self.processor(list(rgb), return_tensors="pt").to(self.device)
            with torch.inference_mode():
                parts.append(self.model(**inputs).last_hidden_state[:, 0].float().cpu().numpy())
            progress(min(start + batch_size, len(images)), len(images))
        return np.concatenate(parts)
