"""Utility: train classifiers on the images, test them on real ones, and compare with controls."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation.arms import BASELINE, LORA
from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.judge import train_judge
from vdm_pipeline.stages.evaluation.results import ClassifierScore, Utility

if TYPE_CHECKING:
    import torch

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
LabelledImages = tuple[Images, Labels]

CONTROL = "real_twice"
"""The size and steps of real + synthetic, without synthetic images: the effect of only the repetition."""
GAINS_OVER = ("real", CONTROL)


def training_sets(real: LabelledImages, arms: Mapping[str, LabelledImages]) -> dict[str, LabelledImages]:
    """Training sets of the classifiers; every half has the same number of images of each class.

    ``real`` are training images, ``arms`` holds ``baseline`` and ``lora``. Sets: ``real``,
    ``synthetic_baseline``, ``synthetic``, ``real_and_synthetic``, ``real_twice``.
    """
    sources = [real, *arms.values()]
    classes = 1 + max(int(labels.max()) for _, labels in sources)
    counts = np.min([np.bincount(labels, minlength=classes) for _, labels in sources], axis=0)
    first_real, lora = _first(*real, counts), _first(*arms[LORA], counts)
    return {
        "real": first_real,
        "synthetic_baseline": _first(*arms[BASELINE], counts),
        "synthetic": lora,
        "real_and_synthetic": _concatenate(first_real, lora),
        CONTROL: _concatenate(first_real, first_real),
    }


def utility(
    sets: Mapping[str, LabelledImages],
    test: LabelledImages,
    class_names: Sequence[str],
    evaluation: Evaluation,
    device: "torch.device",
) -> Utility:
    """Train a small CNN with several seeds on each set and test it on real test images.

    Scores are means over the seeds, with 95 % intervals over seeds and test images. ``gains`` compares
    ``real_and_synthetic`` with other sets on the same resamples.
    """
    _, labels = test
    recalls = {}
    for name, images in sets.items():
        correct = correct_predictions(images, test, len(class_names), evaluation, device)
        recalls[name] = resampled_recalls(correct, labels, len(class_names), evaluation)
    balanced = {name: (recall.mean(), resampled.mean(1)) for name, (recall, resampled) in recalls.items()}
    return Utility(
        seeds=evaluation.utility_seeds,
        epochs=evaluation.utility_epochs,
        n_test=len(labels),
        sets={
            name: ClassifierScore(
                n=len(sets[name][1]),
                balanced_accuracy=Estimate.from_resamples(*balanced[name]),
                recall=_recall_by_class(*recalls[name], class_names),
            )
            for name in sets
        },
        gains=_gains(balanced),
    )


def correct_predictions(
    train: LabelledImages,
    test: LabelledImages,
    classes: int,
    evaluation: Evaluation,
    device: "torch.device",
) -> Floats:
    """1 where the classifier of a seed predicts the true class of a test image, else 0, ``[seeds, n]``."""
    images, labels = test
    correct = []
    for i in range(evaluation.utility_seeds):
        seed = evaluation.seed + i
        classifier = train_judge(
            *train, classes=classes, epochs=evaluation.utility_epochs, seed=seed, device=device
        )
        correct.append(classifier.probabilities(images).argmax(1) == labels)
    return np.stack(correct).astype(float)


def resampled_recalls(
    correct: Floats, labels: Labels, classes: int, evaluation: Evaluation
) -> tuple[Floats, Floats]:
    """Recall of each class ``[classes]``, and resampled over seeds and images ``[r, classes]``.

    ``correct`` is ``[seeds, n]``. A class without test images has a recall of NaN.
    """
    rng, resamples = np.random.default_rng(evaluation.seed), evaluation.bootstrap
    seed_weights = _resample_weights(rng, len(correct), resamples)
    recalls, resampled = np.full(classes, np.nan), np.full((resamples, classes), np.nan)
    for label in range(classes):
        of_class = correct[:, labels == label]
        if count := of_class.shape[1]:
            image_weights = _resample_weights(rng, count, resamples)
            recalls[label] = of_class.mean()
            resampled[:, label] = ((seed_weights @ of_class) * image_weights).sum(1)
    return recalls, resampled


def _resample_weights(rng: np.random.Generator, n: int, resamples: int) -> Floats:
    """Weights of ``n`` items in bootstrap resamples, ``[resamples, n]``; each row sums to 1."""
    return rng.multinomial(n, np.full(n, 1 / n), resamples) / n


def _recall_by_class(
    recalls: Floats, resampled: Floats, class_names: Sequence[str]
) -> dict[str, Estimate | None]:
    return {
        name: Estimate.from_resamples(recalls[label], resampled[:, label])
        for label, name in enumerate(class_names)
    }


def _gains(balanced: Mapping[str, tuple[float, Floats]]) -> dict[str, Estimate | None]:
    """Balanced accuracy of real + synthetic minus that of other sets."""
    value, resampled = balanced["real_and_synthetic"]
    return {
        name: Estimate.from_resamples(value - balanced[name][0], resampled - balanced[name][1])
        for name in balanced
        if name in GAINS_OVER
    }


def _first(images: Images, labels: Labels, counts: NDArray[np.int64]) -> LabelledImages:
    """The first ``counts[label]`` images of each class."""
    rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)])
    return images[rows], labels[rows]


def _concatenate(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
