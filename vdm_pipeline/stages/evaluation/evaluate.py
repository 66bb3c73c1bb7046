"""Compute all image metrics: fidelity, paired differences, memorisation and utility."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vdm_pipeline.io.progress import Log
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.data.grey import channels_of, with_channels
from vdm_pipeline.stages.evaluation.arms import BASELINE, LORA, REAL
from vdm_pipeline.stages.evaluation.comparison import compare
from vdm_pipeline.stages.evaluation.copy_search import search_copies
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.image_names import ImageNames
from vdm_pipeline.stages.evaluation.image_sets import MeasuredSets, RealSets, measure_sets, read_real_sets
from vdm_pipeline.stages.evaluation.inputs import EvaluationInputs, Plan, read_plan
from vdm_pipeline.stages.evaluation.judge import Judge, train_judge
from vdm_pipeline.stages.evaluation.measured_images import ImageMeasurer
from vdm_pipeline.stages.evaluation.pairs import paired_differences
from vdm_pipeline.stages.evaluation.results import (
    ImageMetrics,
    JudgeScore,
    Memorisation,
    ReferenceSet,
    Utility,
)
from vdm_pipeline.stages.evaluation.utility import training_sets, utility

if TYPE_CHECKING:
    import torch


def evaluate(
    inputs: EvaluationInputs,
    spaces: Mapping[str, Space],
    evaluation: Evaluation,
    device: "torch.device",
    log: Log,
) -> ImageMetrics:
    """Compute all metrics; ``spaces`` has the keys `SPACES`.

    The arms are compared with val images that have no duplicate elsewhere. The judge is scored, and utility
    is tested, on test. The row ``real`` scores unseen train images as if they were an arm: the best result
    possible at this sample size. ``real_to_test`` compares these images with test.
    """
    plan, names = read_plan(inputs), inputs.class_names
    real = read_real_sets(inputs, plan, evaluation.seed)
    reference = _describe_reference(inputs, plan, real)
    _log_limits(plan, real, reference, log)
    log("training the judge")
    judge = _train_judge(inputs, real, evaluation, device)
    log("measuring the images")
    images = measure_sets(inputs, real, ImageMeasurer(judge, spaces))
    log("comparing with real images")
    real_to_reference = compare(images.control, images.reference, names, evaluation)
    real_to_test = compare(images.control, images.unseen, names, evaluation)
    arms = {name: compare(arm, images.reference, names, evaluation) for name, arm in images.arms.items()}
    paired = paired_differences(images.arms[BASELINE], images.arms[LORA], images.reference, names, evaluation)
    log("searching for copies of training images")
    memorisation = _search_copies(plan, real, images, spaces, evaluation)
    log("training classifiers on real and synthetic images")
    return ImageMetrics(
        feature_spaces={name: space.title for name, space in spaces.items()},
        judge=_score_judge(judge, inputs, real),
        reference=reference,
        real=real_to_reference,
        real_to_test=real_to_test,
        arms=arms,
        paired=paired,
        memorisation=memorisation,
        utility=_measure_utility(real, images, names, evaluation, device),
    )


def _describe_reference(inputs: EvaluationInputs, plan: Plan, real: RealSets) -> ReferenceSet:
    n = len(real.reference.ids)
    absent = [
        name
        for label, name in enumerate(inputs.class_names)
        if plan.class_counts[label] and label not in real.reference.labels
    ]
    return ReferenceSet(n=n, excluded=len(inputs.archive.splits["val"]) - n, absent_classes=absent)


def _log_limits(plan: Plan, real: RealSets, reference: ReferenceSet, log: Log) -> None:
    """Report that there are too few real images for some metrics."""
    n_control = len(real.control.ids)
    if n_control < len(plan):
        log(
            f"row 'real': train has only {n_control} images outside the subset, an arm has {len(plan)}; "
            "its intervals are wider"
        )
    if reference.absent_classes:
        log(
            f"val has no image of {', '.join(reference.absent_classes)}: "
            "arms are compared by class, not overall"
        )


def _judge_rows(inputs: EvaluationInputs, real: RealSets) -> np.ndarray:
    """Train images that are not in the row ``real``, ``[n]``."""
    control = set(real.control.ids)
    return np.array([image_id not in control for image_id in inputs.archive.image_ids("train")])


def _train_judge(
    inputs: EvaluationInputs, real: RealSets, evaluation: Evaluation, device: "torch.device"
) -> Judge:
    """Train on the true labels of train, without the row ``real``."""
    train, rows = inputs.archive.splits["train"], _judge_rows(inputs, real)
    return train_judge(
        train.images[rows],
        train.labels[rows],
        classes=len(inputs.class_names),
        epochs=evaluation.judge_epochs,
        seed=evaluation.seed,
        device=device,
    )


def _score_judge(judge: Judge, inputs: EvaluationInputs, real: RealSets) -> JudgeScore:
    """The judge's accuracy on test."""
    test = inputs.archive.splits["test"]
    correct = judge.probabilities(test.images).argmax(1) == test.labels
    return JudgeScore(
        n_train=int(_judge_rows(inputs, real).sum()), accuracy=float(correct.mean()), n_test=len(test)
    )


def _search_copies(
    plan: Plan,
    real: RealSets,
    images: MeasuredSets,
    spaces: Mapping[str, Space],
    evaluation: Evaluation,
) -> Memorisation:
    arms = {REAL: images.control, **images.arms}
    names = ImageNames(plan.file_names, real.subset.ids, real.reference.ids)
    return search_copies(arms, images.subset, images.reference, names, spaces, evaluation)


def _measure_utility(
    real: RealSets,
    images: MeasuredSets,
    class_names: Sequence[str],
    evaluation: Evaluation,
    device: "torch.device",
) -> Utility:
    """Real training images have the classes of their captions, as the adapter learned them.

    All images have the channels of the real ones.
    """
    subset, channels = real.subset.images, channels_of(real.subset.images)
    arms = {
        name: (with_channels(images.arms[name].images, channels), images.arms[name].labels)
        for name in (BASELINE, LORA)
    }
    test = real.unseen.images, real.unseen.labels
    return utility(training_sets((subset, real.caption_labels), arms), test, class_names, evaluation, device)
