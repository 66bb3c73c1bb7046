"""Classifiers learn from what they are said to learn from, and the interval is that of seeds and images."""

import numpy as np
import pytest
import torch

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation import utility as utility_module
from vdm_pipeline.stages.evaluation.utility import resampled_recalls, training_sets, utility

EVALUATION = Evaluation(bootstrap=400, utility_epochs=6, utility_seeds=2)


def images_of(labels: np.ndarray, seed: int, noise: float = 30.0) -> np.ndarray:
    """Brighter on the left for 0 and on the right for 1."""
    right = np.arange(32) >= 16
    light = np.where(right[None, None, :] == labels[:, None, None].astype(bool), 180, 70)
    return (
        np.random.default_rng(seed).normal(light, noise, (len(labels), 32, 32)).clip(0, 255).astype(np.uint8)
    )


def numbered(labels: list[int], first: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that are told apart by their grey level."""
    return np.full((len(labels), 2, 2), 1, np.uint8) * np.arange(first, first + len(labels), dtype=np.uint8)[
        :, None, None
    ], np.array(labels)


def test_sets_have_as_many_of_each_class_and_twice_is_twice_the_same():
    real, arms = (
        numbered([0, 0, 0, 1, 1], 0),
        {"baseline": numbered([0, 0, 1, 1, 1], 50), "lora": numbered([1, 0, 1, 0, 1], 100)},
    )
    sets = training_sets(real, arms)
    levels = {name: sorted(images[:, 0, 0].tolist()) for name, (images, _) in sets.items()}
    assert levels == {
        "real": [0, 1, 3, 4],
        "synthetic_baseline": [50, 51, 52, 53],
        "synthetic": [100, 101, 102, 103],
        "real_and_synthetic": [0, 1, 3, 4, 100, 101, 102, 103],
        "real_twice": [0, 0, 1, 1, 3, 3, 4, 4],
    }
    assert all(np.bincount(labels).tolist() in ([2, 2], [4, 4]) for _, labels in sets.values())


def test_useless_images_teach_nothing_and_good_ones_do():
    labels, test = np.arange(64) % 2, np.arange(60) % 2
    good, blank = (
        (images_of(labels, 0), labels),
        (np.random.default_rng(1).integers(256, size=(64, 32, 32), dtype=np.uint8), labels),
    )
    sets = training_sets(good, {"baseline": blank, "lora": (images_of(labels, 2), labels)})
    found = utility(sets, (images_of(test, 3), test), ("left", "right"), EVALUATION, torch.device("cpu"))
    accuracy = {name: values["balanced_accuracy"]["value"] for name, values in found["sets"].items()}
    assert min(accuracy["real"], accuracy["synthetic"], accuracy["real_and_synthetic"]) > 0.9
    assert accuracy["synthetic_baseline"] < 0.8
    assert found["sets"]["real_twice"]["n"] == found["sets"]["real_and_synthetic"]["n"] == 128
    assert found["gains"]["real_twice"]["value"] == pytest.approx(
        accuracy["real_and_synthetic"] - accuracy["real_twice"]
    )
    assert set(found["gains"]) == {"real", "real_twice"}
    assert found["n_test"] == 60


def test_every_classifier_has_a_seed_of_its_own(monkeypatch):
    seeds = []
    real = utility_module.train_judge
    monkeypatch.setattr(
        utility_module, "train_judge", lambda *a, seed, **k: (seeds.append(seed), real(*a, seed=seed, **k))[1]
    )
    labels = np.arange(8) % 2
    images = images_of(labels, 0), labels
    short = Evaluation(bootstrap=50, utility_epochs=1, utility_seeds=3, seed=5)
    utility(
        training_sets(images, {"baseline": images, "lora": images}),
        images,
        ("left", "right"),
        short,
        torch.device("cpu"),
    )
    assert seeds == [5, 6, 7] * 5


def test_recalls_and_their_interval():
    labels = np.repeat([0, 1], [300, 100])
    right = (np.random.default_rng(0).random((4, 400)) < np.where(labels == 0, 0.9, 0.6)).astype(float)
    values, drawn = resampled_recalls(right, labels, 2, EVALUATION)
    assert values == pytest.approx([right[:, :300].mean(), right[:, 300:].mean()])
    assert drawn.shape == (400, 2)
    assert drawn.mean(0) == pytest.approx(values, abs=0.01)
    image_part, seed_part = right[:, 300:].mean(0).std() / 100**0.5, right[:, 300:].mean(1).std() / 4**0.5
    assert drawn[:, 1].std() == pytest.approx(np.hypot(image_part, seed_part), rel=0.4)


def test_class_without_test_images_is_undefined():
    values, drawn = resampled_recalls(np.ones((2, 3)), np.zeros(3, int), 2, EVALUATION)
    assert values[0] == 1
    assert np.isnan(values[1])
    assert np.isnan(drawn[:, 1]).all()
