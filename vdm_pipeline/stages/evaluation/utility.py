"""Are the images of any use? A classifier trained on them, tested on real images, beside the controls that it must beat."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.judge import train_judge

if TYPE_CHECKING:
    import torch

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

CONTROL = "real_twice"
"""As many images and steps as real + synthetic has, and no synthetic image: what mere repetition brings."""


def training_sets(
    real: tuple[Images, Labels], arms: Mapping[str, tuple[Images, Labels]]
) -> dict[str, tuple[Images, Labels]]:
    """What the classifiers learn from, with as many images of each class in each half.

    ``real`` are training images, ``arms`` hold ``baseline`` and ``lora``; sets: ``real``, ``synthetic_baseline``,
    ``synthetic``, ``real_and_synthetic``, ``real_twice``.
    """
    counts = np.min(
        [np.bincount(labels, minlength=_classes(real, arms)) for _, labels in (real, *arms.values())], axis=0
    )
    first = _first(*real, counts)
    drawn = {name: _first(*arm, counts) for name, arm in arms.items()}
    return {
        "real": first,
        "synthetic_baseline": drawn["baseline"],
        "synthetic": drawn["lora"],
        "real_and_synthetic": _together(first, drawn["lora"]),
        CONTROL: _together(first, first),
    }


def utility(
    sets: Mapping[str, tuple[Images, Labels]],
    test: tuple[Images, Labels],
    class_names: Sequence[str],
    evaluation: Evaluation,
    device: "torch.device",
) -> dict[str, Any]:
    """Train a small CNN on each set with several seeds, and test each on the real test images.

    ``sets.<name>``: ``n``, ``balanced_accuracy`` and ``recall.<class>``, means over the seeds with 95 % intervals over seeds
    and test images; ``gains.<name>``: real + synthetic minus another set, on the same resamples.
    """
    images, labels = test
    right = {}
    for name, (x, y) in sets.items():
        judges = (
            train_judge(
                x,
                y,
                classes=len(class_names),
                epochs=evaluation.utility_epochs,
                seed=evaluation.seed + i,
                device=device,
            )
            for i in range(evaluation.utility_seeds)
        )
        right[name] = np.stack([judge.probabilities(images).argmax(1) == labels for judge in judges]).astype(
            float
        )
    recalls = {
        name: resampled_recalls(values, labels, len(class_names), evaluation)
        for name, values in right.items()
    }
    balanced = {name: (value.mean(), drawn.mean(1)) for name, (value, drawn) in recalls.items()}
    both, both_drawn = balanced["real_and_synthetic"]
    return {
        "classifier": "small CNN",
        "seeds": evaluation.utility_seeds,
        "epochs": evaluation.utility_epochs,
        "n_test": len(labels),
        "sets": {
            name: {
                "n": len(sets[name][1]),
                "balanced_accuracy": _with_ends(*balanced[name]),
                "recall": {c: _with_ends(value[i], drawn[:, i]) for i, c in enumerate(class_names)},
            }
            for name, (value, drawn) in recalls.items()
        },
        "gains": {
            name: _with_ends(both - value, both_drawn - drawn)
            for name, (value, drawn) in balanced.items()
            if name in ("real", CONTROL)
        },
    }


def resampled_recalls(
    right: Floats, labels: Labels, classes: int, evaluation: Evaluation
) -> tuple[Floats, Floats]:
    """Recall of each class ``[classes]`` from ``right`` ``[seeds, n]``, and resampled over seeds and images ``[r, classes]``.

    A class without test images has a recall of NaN.
    """
    rng = np.random.default_rng(evaluation.seed)
    seeds = rng.multinomial(len(right), np.full(len(right), 1 / len(right)), evaluation.bootstrap) / len(
        right
    )
    values, drawn = np.full(classes, np.nan), np.full((evaluation.bootstrap, classes), np.nan)
    for label in range(classes):
        mine = right[:, labels == label]
        count = mine.shape[1]
        if count:
            images = rng.multinomial(count, np.full(count, 1 / count), evaluation.bootstrap) / count
            values[label], drawn[:, label] = mine.mean(), ((seeds @ mine) * images).sum(1)
    return values, drawn


def _classes(real: tuple[Images, Labels], arms: Mapping[str, tuple[Images, Labels]]) -> int:
    return 1 + max(int(labels.max()) for _, labels in (real, *arms.values()))


def _first(images: Images, labels: Labels, counts: NDArray[np.int64]) -> tuple[Images, Labels]:
    """The first images of each class, so many of it as ``counts`` says."""
    rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)])
    return images[rows], labels[rows]


def _together(one: tuple[Images, Labels], other: tuple[Images, Labels]) -> tuple[Images, Labels]:
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])


def _with_ends(value: float, drawn: Floats) -> dict[str, Any] | None:
    """The value with its percentile interval; None where it is undefined."""
    return (
        None
        if np.isnan(value)
        else {"value": float(value), "ci95": np.percentile(drawn, (2.5, 97.5)).tolist()}
    )
