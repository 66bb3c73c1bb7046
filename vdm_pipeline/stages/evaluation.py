"""`image_metrics`: both arms against held-out real images, beside a row of real against real."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.io.images import read_folder, resize
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.archive import Archive
from vdm_pipeline.stages.judge import Judge, train_judge
from vdm_pipeline.stages.metrics.images import chroma, kernel_distance, mean_with_interval, sharpness

if TYPE_CHECKING:
    import torch

MIN_FOR_KID = 3
Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Sample:
    """What is measured of each of n images: features ``[n, d]``, intended class, sharpness, colour spread, agreement ``[n]``."""

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    sharpness: NDArray[np.float64]
    chroma: NDArray[np.float64]
    agreement: NDArray[np.float64]

    @classmethod
    def of(
        cls, images: NDArray[np.uint8], labels: NDArray[np.int64], embed: Embed, judge: Judge, colour: NDArray[np.float64] | None = None
    ) -> "Sample":
        """Measure uint8 images ``[n, h, w]`` or ``[n, h, w, 3]``; ``colour`` is their chroma before they were made grey.

        Unit embeddings are scaled by the root of d, so that ``x·y / d`` in the kernel is their cosine.
        """
        embedding = embed(images).astype(np.float64)
        agreement = (judge.probabilities(images).argmax(1) == labels).astype(float)
        spread = chroma(images) if colour is None else colour
        return cls(embedding * np.sqrt(embedding.shape[1]), labels, sharpness(images), spread, agreement)

    def rows(self, rows: NDArray[np.int64]) -> "Sample":
        """A part of the sample."""
        return Sample(*(getattr(self, field.name)[rows] for field in fields(self)))


def compare(arm: Sample, reference: Sample, class_names: Sequence[str], evaluation: Evaluation) -> dict[str, Any]:
    """Metrics of an arm, overall and per class, against the reference images of the same classes; None where images are too few."""
    groups = {"overall": (np.ones(len(arm.labels), bool), np.ones(len(reference.labels), bool))}
    groups |= {name: (arm.labels == i, reference.labels == i) for i, name in enumerate(class_names)}
    report = {}
    for name, (mine, theirs) in groups.items():
        values = {"sharpness": arm.sharpness, "chroma": arm.chroma, "label_agreement": arm.agreement}
        n, n_reference = int(mine.sum()), int(theirs.sum())
        intervals = {key: mean_with_interval(v[mine], evaluation.bootstrap, evaluation.seed) if n else None for key, v in values.items()}
        enough = min(n, n_reference) >= MIN_FOR_KID
        kid = kernel_distance(arm.features[mine], reference.features[theirs]) if enough else None
        report[name] = {"n": n, "n_reference": n_reference, "kid": kid, **intervals}
    return report


def halves(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split ``n`` rows into two halves, for the real-against-real row.

    Drawn freely, not class by class: halves of the very same class shares would be more alike than two samples are.
    """
    rows = np.random.default_rng(seed).permutation(n)
    return np.sort(rows[: n // 2]), np.sort(rows[n // 2 :])


def evaluate(
    *,
    archive: Archive,
    arms: dict[str, Path],
    class_names: Sequence[str],
    resolution: int,
    embed: Embed,
    feature_space: str,
    evaluation: Evaluation,
    device: "torch.device",
) -> dict[str, Any]:
    """Compare each arm's folder, and one half of the real val split, with real val images (the other half, for the half).

    Real images are brought to the size of the generated ones. The judge learns from the train split and is scored on test.
    """
    train, val, test = (archive.splits[name] for name in ("train", "val", "test"))
    judge = train_judge(
        train.images, train.labels, classes=len(class_names), epochs=evaluation.judge_epochs, seed=evaluation.seed, device=device
    )
    held_out = float((judge.probabilities(test.images).argmax(1) == test.labels).mean())
    real = Sample.of(resize(val.images, resolution), val.labels, embed, judge)
    first, second = halves(len(val), evaluation.seed)
    report: dict[str, Any] = {
        "feature_space": feature_space,
        "judge": {
            "kind": "small CNN",
            "trained_on": "real train split, true labels",
            "n_train": len(train),
            "accuracy_held_out": held_out,
            "n_held_out": len(test),
        },
        "real": compare(real.rows(first), real.rows(second), class_names, evaluation),
    }
    for name, folder in arms.items():
        rows = read_rows(folder / "metadata.jsonl")
        labels = np.array([class_names.index(row["label"]) for row in rows])
        sample = Sample.of(read_folder(folder, rows), labels, embed, judge, np.array([row["chroma"] for row in rows]))
        report[name] = compare(sample, real, class_names, evaluation)
    return report
