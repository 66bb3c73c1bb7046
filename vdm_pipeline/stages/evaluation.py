"""`image_metrics`: both arms against held-out real images, beside a row of real against real."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.judge import Judge
from vdm_pipeline.stages.metrics.images import kernel_distance, mean_with_interval, sharpness

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Sample:
    """Images of one arm (uint8 ``[n, h, w]`` or ``[n, h, w, 3]``), the class each is meant to show, and colour spread a piece."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], chroma: NDArray[np.float64], embed: Embed, judge: Judge):
        embedding = embed(images).astype(np.float64)
        self.labels, self.chroma, self.sharpness = labels, chroma, sharpness(images)
        self.features = embedding * np.sqrt(embedding.shape[1])  # unit vectors: x·y / d is then the cosine
        self.agreement = (judge.probabilities(images).argmax(1) == labels).astype(float)


def compare(arm: Sample, reference: Sample, class_names: Sequence[str], evaluation: Evaluation) -> dict[str, Any]:
    """Metrics of an arm, overall and per class, against the reference images of the same classes."""
    groups = {"overall": (np.ones(len(arm.labels), bool), np.ones(len(reference.labels), bool))}
    groups |= {name: (arm.labels == i, reference.labels == i) for i, name in enumerate(class_names)}
    report = {}
    for name, (mine, theirs) in groups.items():
        values = {"sharpness": arm.sharpness, "chroma": arm.chroma, "label_agreement": arm.agreement}
        intervals = {key: mean_with_interval(v[mine], evaluation.bootstrap, evaluation.seed) for key, v in values.items()}
        kid = kernel_distance(arm.features[mine], reference.features[theirs])
        report[name] = {"n": int(mine.sum()), "n_reference": int(theirs.sum()), "kid": kid, **intervals}
    return report


def halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows into two halves, each class evenly: the real-against-real row compares one with the other."""
    rng = np.random.default_rng(seed)
    first: list[int] = []
    second: list[int] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first += rows[: len(rows) // 2].tolist()
        second += rows[len(rows) // 2 :].tolist()
    return np.sort(first), np.sort(second)
