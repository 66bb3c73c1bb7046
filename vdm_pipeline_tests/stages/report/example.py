"""Metric files filled by hand: every figure differs from every other, so that each can be found on the page."""

from collections.abc import Iterator
from itertools import count
from typing import Any

NAMES = ("normal", "pneumonia")
GROUPS = ("overall", *NAMES)
SET_METRICS = ("kid", "cmmd", "fid", "precision", "recall", "density", "coverage", "diversity")
IMAGE_METRICS = ("sharpness", "chroma", "label_agreement", "label_confidence", "ms_ssim")
COPIES = ("share_near_train", "share_near_held_out", "copied", "share_nearest_is_train", "ratio")
PAIRED = (
    "label_agreement",
    "label_confidence",
    "sharpness",
    "chroma",
    "nearest_real_labeller",
    "nearest_real_independent",
)
LABELS = {
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
    return {"value": value, "ci95": [value - half, value + half]}


def filled(extra: str = "dpm25") -> dict[str, Any]:
    """All keys that `image_metrics` writes."""
    numbers = (n / 1000 for n in count(101))
    counts = count(1001)
    arms = {arm: _arm(numbers, counts) for arm in ("real", "real_to_test", "baseline", "lora", extra)}
    return {
        "profile": "demo (phantom)",
        "feature_spaces": {
            "labeller": "embeddings of the labeller, embedded:clip",
            "independent": "handcrafted: gradients",
        },
        "judge": {
            "kind": "small CNN",
            "trained_on": "real train split",
            "n_train": next(counts),
            "accuracy_held_out": 0.987,
            "n_held_out": next(counts),
        },
        "reference": {"split": "val", "n": next(counts), "left_out": next(counts), "absent": []},
        "fid_trusted_from": 2048,
        "extra": {extra: arms.pop(extra)},
        **arms,
        "paired": {
            key: {
                group: {"n": 128, **_next(numbers), "p": next(numbers), "p_copied": next(numbers)}
                for group in GROUPS
            }
            for key in PAIRED
        },
        "memorization": {
            "arms": {arm: _copies(numbers, counts) for arm in ("real", "baseline", "lora", extra)},
            "closest": {
                space: [
                    {
                        "arm": "lora",
                        "file_name": f"gen_00{i}.png",
                        "train_image": "a",
                        "held_out_image": f"held_{i}",
                        "nearness": next(numbers),
                    }
                    for i in range(2)
                ]
                for space in ("labeller", "independent")
            },
        },
        "utility": {
            "classifier": "small CNN",
            "seeds": 3,
            "epochs": 10,
            "n_test": next(counts),
            "sets": {
                name: {
                    "n": next(counts),
                    "balanced_accuracy": _next(numbers),
                    "recall": {c: _next(numbers) for c in NAMES},
                }
                for name in ("real", "synthetic_baseline", "synthetic", "real_and_synthetic", "real_twice")
            },
            "gains": {name: _next(numbers) for name in ("real", "real_twice")},
        },
    }


def without_values(tree: Any) -> Any:
    """The tree as it is where images are too few: each metric is null."""
    if isinstance(tree, dict):
        return None if "value" in tree else {key: without_values(branch) for key, branch in tree.items()}
    return tree


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Everything at the ends of a JSON tree, with its key."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from leaves(branch, name)
    elif isinstance(tree, list):
        for branch in tree:
            yield from leaves(branch, key)
    else:
        yield key, tree


def _arm(numbers: Iterator[float], counts: Iterator[int]) -> dict[str, Any]:
    return {
        group: {
            "n": next(counts),
            "n_reference": next(counts),
            **{key: _next(numbers) for key in (*SET_METRICS, *IMAGE_METRICS)},
            "independent": {key: _next(numbers) for key in SET_METRICS},
        }
        for group in GROUPS
    }


def _copies(numbers: Iterator[float], counts: Iterator[int]) -> dict[str, Any]:
    def space() -> dict[str, Any]:
        sizes = {key: next(counts) for key in ("n", "n_train")} | {"n_held_out": 100 + next(counts)}
        return {
            **sizes,
            **{key: _next(numbers) for key in COPIES},
            "p": next(numbers),
            "p_copied": next(numbers),
        }

    duplicates = {
        "exact": next(counts),
        "of_training": next(counts),
        "labeller": next(numbers) / 10,
        "independent": next(numbers) / 10,
    }
    return {"labeller": space(), "independent": space(), "duplicates": duplicates}


def _next(numbers: Iterator[float]) -> dict[str, Any]:
    low, value, high = (next(numbers) for _ in range(3))
    return {"value": value, "ci95": [low, high]}
