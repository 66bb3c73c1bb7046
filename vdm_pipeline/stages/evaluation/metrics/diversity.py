"""Diversity within one set of images: the Vendi score, and MS-SSIM of pairs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, finest first (Wang et al., 2003)."""
WINDOW = 11
"""Side of the Gaussian window of MS-SSIM, pixels."""
MAX_PAIRS = 256
PAIRS_PER_BATCH = 16
"""Keeps memory below half a gigabyte at 512 pixels."""


def vendi_score(x: NDArray[np.float64]) -> float:
    """Effective number of different images of features ``[n, d]`` (Friedman and Dieng, 2023).

    ``exp`` of the entropy of the eigenvalues of ``K / n``, with K the cosines. From 1 (all the same) to n
    (nothing in common); it grows with n.
    """
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    # Both products have the same eigenvalues except for zeros; the smaller one is faster.
    gram = unit @ unit.T if len(x) <= x.shape[1] else unit.T @ unit
    values = np.linalg.eigvalsh(gram / len(x))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def usable_scales(side: int) -> int:
    """How many scales of MS-SSIM an image of this side allows; 0 if it is smaller than the window."""
    usable = [
        scales
        for scales in range(1, len(SCALE_WEIGHTS) + 1)
        if side // max(1, (scales - 1) ** 2) >= WINDOW and side // 2 ** (scales - 1) > WINDOW // 2
    ]
    return max(usable, default=0)


def ms_ssim_within(
    images: NDArray[np.uint8], labels: NDArray[np.int64], resamples: int, seed: int
) -> dict[str, Any] | None:
    """Mean MS-SSIM of random pairs of the same class, with a bootstrap interval over pairs.

    1 means all the same; lower is more diverse. Each image is in at most one pair. ``images`` are uint8
    ``[n, h, w]`` or ``[n, h, w, 3]``, ``labels`` ``[n]``. None if no class has two images, or if the images
    are smaller than the window. Small images use fewer than five scales.
    """
    pairs = same_class_pairs(labels, seed)[:MAX_PAIRS]
    weights = SCALE_WEIGHTS[: usable_scales(min(images.shape[1:3]))]
    if not len(pairs) or not weights:
        return None
    betas = tuple(weight / sum(weights) for weight in weights)
    batches = [pairs[start : start + PAIRS_PER_BATCH] for start in range(0, len(pairs), PAIRS_PER_BATCH)]
    values = [_ms_ssim(images[batch[:, 0]], images[batch[:, 1]], betas) for batch in batches]
    return mean_with_interval(np.concatenate(values), resamples, seed)


def _ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], betas: tuple[float, ...]) -> NDArray[np.float64]:
    """MS-SSIM of each of ``a`` with that of ``b``, ``[n]``."""
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

    grey_a, grey_b = (torch.from_numpy(to_grey(images) / np.float32(255))[:, None] for images in (a, b))
    values = ms_ssim(grey_a, grey_b, data_range=1.0, betas=betas, reduction="none", normalize="relu")
    return values.double().numpy()


def same_class_pairs(labels: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """Random pairs of rows ``[p, 2]`` with the same label, in random order; a row is in at most one pair."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    pairs = [row[: len(row) // 2 * 2].reshape(-1, 2) for row in rows]
    return rng.permutation(np.concatenate(pairs)) if pairs else np.empty((0, 2), np.intp)
