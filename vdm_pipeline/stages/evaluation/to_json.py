"""The content of ``results/metrics/image_metrics.json``, from the typed results."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from vdm_pipeline.stages.evaluation.arms import BASELINE, LORA, REAL
from vdm_pipeline.stages.evaluation.metrics.frechet import MIN_RELIABLE_IMAGES
from vdm_pipeline.stages.evaluation.results import (
    ArmMemorisation,
    ArmMetrics,
    CopyFigures,
    GroupMetrics,
    ImageMeans,
    ImageMetrics,
    JudgeScore,
    Memorisation,
    PairedDifference,
    ReferenceSet,
    SpaceMemorisation,
    SpaceMetrics,
    Utility,
)
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER

CLASSIFIER = "small CNN"


def image_metrics_json(metrics: ImageMetrics) -> dict[str, Any]:
    """The whole file except the profile's name."""
    arms = {name: arm_metrics_json(arm) for name, arm in metrics.arms.items()}
    return {
        "feature_spaces": dict(metrics.feature_spaces),
        "judge": _judge_json(metrics.judge),
        "reference": _reference_json(metrics.reference),
        "fid_trusted_from": MIN_RELIABLE_IMAGES,
        REAL: arm_metrics_json(metrics.real),
        "real_to_test": arm_metrics_json(metrics.real_to_test),
        BASELINE: arms.pop(BASELINE),
        LORA: arms.pop(LORA),
        "extra": arms,
        "paired": _paired_json(metrics.paired),
        "memorization": _memorisation_json(metrics.memorisation),
        "utility": _utility_json(metrics.utility),
    }


def arm_metrics_json(arm: ArmMetrics) -> dict[str, Any]:
    """``overall`` and each class."""
    groups = {"overall": arm.overall, **arm.by_class}
    return {name: _group_json(group) for name, group in groups.items()}


def _group_json(group: GroupMetrics) -> dict[str, Any]:
    """The labeller's space has its figures directly in the group, the independent one under its name."""
    return {
        "n": group.n,
        "n_reference": group.n_reference,
        **_figures_json(group.spaces[LABELLER], SpaceMetrics),
        **_figures_json(group.means, ImageMeans),
        "ms_ssim": _plain(group.ms_ssim),
        INDEPENDENT: _figures_json(group.spaces[INDEPENDENT], SpaceMetrics),
    }


def _judge_json(judge: JudgeScore) -> dict[str, Any]:
    return {
        "kind": CLASSIFIER,
        "trained_on": "real train split but for the row 'real', true labels",
        "n_train": judge.n_train,
        "accuracy_held_out": judge.accuracy,
        "n_held_out": judge.n_test,
    }


def _reference_json(reference: ReferenceSet) -> dict[str, Any]:
    return {
        "split": "val",
        "n": reference.n,
        "left_out": reference.excluded,
        "absent": list(reference.absent_classes),
    }


def _paired_json(paired: Mapping[str, Mapping[str, PairedDifference]]) -> dict[str, Any]:
    return {
        metric: {
            group: {"n": pairs.n, **_plain(pairs.difference), "p": pairs.p} for group, pairs in groups.items()
        }
        for metric, groups in paired.items()
    }


def _memorisation_json(memorisation: Memorisation) -> dict[str, Any]:
    return {
        "arms": {name: _arm_memorisation_json(arm) for name, arm in memorisation.arms.items()},
        "closest": _plain(memorisation.closest),
        "single_copies": _plain(memorisation.single_copies),
    }


def _arm_memorisation_json(arm: ArmMemorisation) -> dict[str, Any]:
    """Duplicates and each space."""
    duplicates = arm.duplicates
    return {
        "duplicates": {
            "exact": duplicates.exact,
            "of_training": duplicates.of_training,
            **duplicates.share_alike,
        },
        **{name: space_memorisation_json(space) for name, space in arm.spaces.items()},
    }


def space_memorisation_json(space: SpaceMemorisation) -> dict[str, Any]:
    """Sizes and figures."""
    return {
        "n": space.n,
        "n_train": space.n_train,
        "n_held_out": space.n_held_out,
        **_figures_json(space.figures, CopyFigures),
    }


def _utility_json(utility: Utility) -> dict[str, Any]:
    return {"classifier": CLASSIFIER, **_plain(utility)}


def _figures_json(figures: Any, kind: type) -> dict[str, Any]:
    """The fields of a dataclass of that kind, or null for each of them if there are no figures."""
    if figures is None:
        return dict.fromkeys(field.name for field in fields(kind))
    return _plain(figures)


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, sequences as lists, anything else unchanged."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
