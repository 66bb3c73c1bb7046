"""How much the images of one set differ among themselves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.evaluation.metrics.images import mean_with_interval

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, finest first (Wang et al., 2003)."""
WINDOW = 11
"""Side of its Gaussian window, pixels."""
MOST_PAIRS = 256
AT_ONCE = 16
"""Pairs, so that memory stays below half a gigabyte at 512 pixels."""


def vendi_score(x: NDArray[np.float64]) -> float:
    """Effective number of different images: ``exp`` of the entropy of the eigenvalues of ``K / n``, K the cosines of ``[n, d]``.

    From 1 (all the same) to n (nothing in common); it grows with n (Friedman and Dieng, 2023).
    """
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    gram = (
        unit @ unit.T if len(x) <= x.shape[1] else unit.T @ unit
    )  # both have the same eigenvalues but for zeros
    values = np.linalg.eigvalsh(gram / len(x))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def scales(side: int) -> int:
    """How many scales of MS-SSIM fit on images of a side, with windows of 11 pixels; 0 where not even one does."""
    fitting = [
        m
        for m in range(1, len(WEIGHTS) + 1)
        if side // max(1, (m - 1) ** 2) >= WINDOW and side // 2 ** (m - 1) > WINDOW // 2
    ]
    return max(fitting, default=0)


def ms_ssim_within(
    images: NDArray[np.uint8], labels: NDArray[np.int64], resamples: int, seed: int
) -> dict[str, Any] | None:
    """Mean MS-SSIM of random pairs of the same class, each image in one pair at most, with a bootstrap interval over pairs.

    1: all the same; lower is more diverse. ``images`` are uint8 ``[n, h, w]`` or ``[n, h, w, 3]``, ``labels`` ``[n]``. None
    where no class has two images or the images are smaller than the window. As many of the five scales are used as fit.
    """
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

    pairs = same_class_pairs(labels, seed)[:MOST_PAIRS]
    used = WEIGHTS[: scales(min(images.shape[1:3]))]
    if not len(pairs) or not used:
        return None
    betas = tuple(weight / sum(used) for weight in used)
    found = []
    for start in range(0, len(pairs), AT_ONCE):
        one, other = (
            torch.from_numpy(to_grey(images[rows]) / np.float32(255))[:, None]
            for rows in pairs[start : start + AT_ONCE].T
        )
        found.append(
            ms_ssim(one, other, data_range=1.0, betas=betas, reduction="none", normalize="relu")
            .double()
            .numpy()
        )
    return mean_with_interval(np.concatenate(found), resamples, seed)


def same_class_pairs(labels: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """Random pairs of rows ``[p, 2]`` of the same label, in random order; no row stands in two."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    pairs = [row[: len(row) // 2 * 2].reshape(-1, 2) for row in rows]
    return rng.permutation(np.concatenate(pairs)) if pairs else np.empty((0, 2), np.intp)
