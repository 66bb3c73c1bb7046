"""Types of the evaluation's results. `to_json` writes them to ``image_metrics.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vdm_pipeline.stages.evaluation.estimate import Estimate


@dataclass(frozen=True)
class SpaceMetrics:
    """Distances between generated and reference images in one feature space, and the images' diversity."""

    kid: Estimate
    cmmd: Estimate
    fid: Estimate
    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    diversity: Estimate


@dataclass(frozen=True)
class ImageMeans:
    """Means of values that each image has."""

    sharpness: Estimate
    chroma: Estimate
    label_agreement: Estimate
    label_confidence: Estimate


@dataclass(frozen=True)
class GroupMetrics:
    """Metrics of all images, or of one class.

    ``spaces`` has None if there are too few images or reference images; ``means`` is None without images.
    """

    n: int
    n_reference: int
    spaces: Mapping[str, SpaceMetrics | None]
    means: ImageMeans | None
    ms_ssim: Estimate | None


@dataclass(frozen=True)
class ArmMetrics:
    """One set of images against the reference images, overall and by class name."""

    overall: GroupMetrics
    by_class: Mapping[str, GroupMetrics]


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of ``n`` image pairs and the p-value of a sign-flip test."""

    n: int
    difference: Estimate
    p: float


@dataclass(frozen=True)
class JudgeScore:
    """Size of the judge's training set, and its accuracy on the test split."""

    n_train: int
    accuracy: float
    n_test: int


@dataclass(frozen=True)
class ReferenceSet:
    """Size of the reference set, the number of excluded val images, and planned classes without any image."""

    n: int
    excluded: int
    absent_classes: Sequence[str]


@dataclass(frozen=True)
class CopyFigures:
    """Whether images are closer to training images than to held-out ones; see `memorisation`."""

    p_copied: float
    share_near_train: Estimate
    share_near_held_out: Estimate
    copied: Estimate
    ratio: Estimate
    share_nearest_is_train: Estimate
    p: float


@dataclass(frozen=True)
class SpaceMemorisation:
    """Memorisation in one space; no figures if the held-out images lack a class of the training images."""

    n: int
    n_train: int
    n_held_out: int
    figures: CopyFigures | None


@dataclass(frozen=True)
class Duplicates:
    """Duplicates in an arm.

    ``exact``: images with the pixels of an earlier one. ``of_training``: with those of a training image.
    ``share_alike``: see `duplicates.share_alike`, by space.
    """

    exact: int
    of_training: int
    share_alike: Mapping[str, float | None]


@dataclass(frozen=True)
class ArmMemorisation:
    """Duplicates of one arm, and memorisation by space."""

    duplicates: Duplicates
    spaces: Mapping[str, SpaceMemorisation]


@dataclass(frozen=True)
class ClosestPair:
    """An image with its nearest training and held-out image.

    ``nearness`` is the distance to the training image over `Neighbours.near_train_distance`.
    """

    arm: str
    file_name: str
    train_image: str
    held_out_image: str
    nearness: float


@dataclass(frozen=True)
class SingleCopy:
    """An image that is a copy of a training image by its pixels.

    ``ratio`` is the distance to the training image over that to the nearest held-out one. ``orientation`` is
    that of the image against the training image, such as "mirrored, inverted"; empty if it is the same.
    """

    arm: str
    file_name: str
    train_image: str
    held_out_image: str
    orientation: str
    ratio: float


@dataclass(frozen=True)
class SingleCopies:
    """Single copies among the ``n`` images of all arms; see `single_copies`.

    ``limit`` of the ratio and ``sensitivity`` are None if there are too few held-out images to test.
    """

    false_alarm_rate: float
    n: int
    n_held_out: int
    limit: float | None
    sensitivity: float | None
    found: Sequence[SingleCopy]


@dataclass(frozen=True)
class Memorisation:
    """Memorisation by arm, the closest pairs by space, and single copies."""

    arms: Mapping[str, ArmMemorisation]
    closest: Mapping[str, Sequence[ClosestPair]]
    single_copies: SingleCopies


@dataclass(frozen=True)
class ClassifierScore:
    """Test scores of classifiers trained on ``n`` images; None without test images of a class."""

    n: int
    balanced_accuracy: Estimate | None
    recall: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class Utility:
    """Classifier scores by training set; ``gains`` are real + synthetic minus another set."""

    seeds: int
    epochs: int
    n_test: int
    sets: Mapping[str, ClassifierScore]
    gains: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class ImageMetrics:
    """All results.

    ``arms`` holds ``baseline``, ``lora`` and extra arms. ``paired`` is by metric and group.
    """

    feature_spaces: Mapping[str, str]
    judge: JudgeScore
    reference: ReferenceSet
    real: ArmMetrics
    real_to_test: ArmMetrics
    arms: Mapping[str, ArmMetrics]
    paired: Mapping[str, Mapping[str, PairedDifference]]
    memorisation: Memorisation
    utility: Utility
