"""Metric files in which every figure differs from every other, so that each can be found on the page."""

from collections.abc import Iterator
from itertools import count
from typing import Any

CLASS_NAMES = ("normal", "pneumonia")
GROUPS = ("overall", *CLASS_NAMES)
SET_METRICS = ("kid", "cmmd", "fid", "precision", "recall", "density", "coverage", "diversity")
IMAGE_METRICS = ("sharpness", "chroma", "label_agreement", "label_confidence", "ms_ssim")
COPY_METRICS = ("share_near_train", "share_near_held_out", "copied", "share_nearest_is_train", "ratio")
PAIRED_METRICS = (
    "label_agreement",
    "label_confidence",
    "sharpness",
    "chroma",
    "nearest_real_labeller",
    "nearest_real_independent",
)
TRAINING_SETS = ("real", "synthetic_baseline", "synthetic", "real_and_synthetic", "real_twice")
LABEL_METRICS = {
    "test": {
        "n": 400,
        "accuracy": 0.9,
        "majority_baseline_accuracy": 0.625,
        "balanced_accuracy": 0.88,
        "balanced_accuracy_ci95": [0.85, 0.91],
        "roc_auc": 0.95,
        "roc_auc_ci95": [0.9, 0.97],
    }
}


def metric(value: float, half: float = 0.1) -> dict[str, Any]:
    """A metric whose interval extends by ``half`` to both sides."""
    return {"value": value, "ci95": [value - half, value + half]}


def image_metrics(extra: str = "dpm25") -> dict[str, Any]:
    """All keys of image_metrics.json, with one extra arm."""
    return _Figures().image_metrics(extra)


def without_values(tree: Any) -> Any:
    """The tree with every metric null, as it is for too few images."""
    if isinstance(tree, dict):
        return None if "value" in tree else {key: without_values(branch) for key, branch in tree.items()}
    return tree


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON tree, each with its key."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from leaves(branch, name)
    elif isinstance(tree, list):
        for branch in tree:
            yield from leaves(branch, key)
    else:
        yield key, tree


class _Figures:
    """Sections of image_metrics.json with ascending figures."""

    def __init__(self) -> None:
        self._numbers = (n / 1000 for n in count(101))
        self._counts = count(1001)

    def number(self) -> float:
        return next(self._numbers)

    def count(self) -> int:
        return next(self._counts)

    def metric(self) -> dict[str, Any]:
        low, value, high = self.number(), self.number(), self.number()
        return {"value": value, "ci95": [low, high]}

    def image_metrics(self, extra: str) -> dict[str, Any]:
        arms = {arm: self.arm() for arm in ("real", "real_to_test", "baseline", "lora")}
        return {
            "feature_spaces": {
                "labeller": "embeddings of the labeller, embedded:clip",
                "independent": "handcrafted: gradients",
            },
            "judge": self.judge(),
            "reference": {"split": "val", "n": self.count(), "left_out": self.count(), "absent": []},
            "fid_trusted_from": 2048,
            "extra": {extra: self.arm()},
            **arms,
            "paired": {key: {group: self.paired() for group in GROUPS} for key in PAIRED_METRICS},
            "memorization": self.memorization(extra),
            "utility": self.utility(),
        }

    def judge(self) -> dict[str, Any]:
        sizes = {"n_train": self.count(), "n_held_out": self.count()}
        return {
            "kind": "small CNN",
            "trained_on": "real train split",
            "accuracy_held_out": 0.987,
            **sizes,
        }

    def arm(self) -> dict[str, Any]:
        return {
            group: {
                "n": self.count(),
                "n_reference": self.count(),
                **{key: self.metric() for key in (*SET_METRICS, *IMAGE_METRICS)},
                "independent": {key: self.metric() for key in SET_METRICS},
            }
            for group in GROUPS
        }

    def paired(self) -> dict[str, Any]:
        return {"n": 128, **self.metric(), "p": self.number(), "p_copied": self.number()}

    def memorization(self, extra: str) -> dict[str, Any]:
        return {
            "arms": {arm: self.copies() for arm in ("real", "baseline", "lora", extra)},
            "closest": {space: self.closest_pairs() for space in ("labeller", "independent")},
            "single_copies": self.single_copies(),
        }

    def single_copies(self) -> dict[str, Any]:
        copy = {
            "arm": "lora",
            "file_name": "gen_002.png",
            "train_image": "a",
            "held_out_image": "held_2",
            "orientation": "mirrored",
            "ratio": self.number(),
        }
        return {
            "false_alarm_rate": self.number() / 100,
            "n": self.count(),
            "n_held_out": self.count(),
            "limit": self.number(),
            "sensitivity": self.number(),
            "found": [copy],
        }

    def copies(self) -> dict[str, Any]:
        duplicates = {
            "exact": self.count(),
            "of_training": self.count(),
            "labeller": self.number() / 10,
            "independent": self.number() / 10,
        }
        return {"labeller": self.space(), "independent": self.space(), "duplicates": duplicates}

    def space(self) -> dict[str, Any]:
        return {
            "n": self.count(),
            "n_train": self.count(),
            "n_held_out": 100 + self.count(),
            **{key: self.metric() for key in COPY_METRICS},
            "p": self.number(),
            "p_copied": self.number(),
        }

    def closest_pairs(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": "lora",
                "file_name": f"gen_00{i}.png",
                "train_image": "a",
                "held_out_image": f"held_{i}",
                "nearness": self.number(),
            }
            for i in range(2)
        ]

    def utility(self) -> dict[str, Any]:
        return {
            "classifier": "small CNN",
            "seeds": 3,
            "epochs": 10,
            "n_test": self.count(),
            "sets": {name: self.training_set() for name in TRAINING_SETS},
            "gains": {name: self.metric() for name in ("real", "real_twice")},
        }

    def training_set(self) -> dict[str, Any]:
        return {
            "n": self.count(),
            "balanced_accuracy": self.metric(),
            "recall": {name: self.metric() for name in CLASS_NAMES},
        }
