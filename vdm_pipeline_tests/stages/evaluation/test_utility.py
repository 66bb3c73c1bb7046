"""Training sets and scores of the utility classifiers; intervals are over seeds and images."""

import numpy as np
import pytest
import torch

from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.evaluation import utility as utility_module
from vdm_pipeline.stages.evaluation.estimate import Estimate
from vdm_pipeline.stages.evaluation.utility import resampled_recalls, training_sets, utility

EVALUATION = Evaluation(bootstrap=400, utility_epochs=6, utility_seeds=2)


def images_of(labels: np.ndarray, seed: int, noise: float = 30.0) -> np.ndarray:
    """Brighter on the left for 0 and on the right for 1."""
    right = np.arange(32) >= 16
    light = np.where(right[None, None, :] == labels[:, None, None].astype(bool), 180, 70)
    rng = np.random.default_rng(seed)
    return rng.normal(light, noise, (len(labels), 32, 32)).clip(0, 255).astype(np.uint8)


def numbered(labels: list[int], first: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with the grey levels ``first``, ``first + 1``, ..."""
    levels = np.arange(first, first + len(labels), dtype=np.uint8)
    return np.ones((len(labels), 2, 2), np.uint8) * levels[:, None, None], np.array(labels)


def test_halves_have_the_same_number_of_each_class_and_real_twice_repeats():
    arms = {"baseline": numbered([0, 0, 1, 1, 1], 50), "lora": numbered([1, 0, 1, 0, 1], 100)}
    sets = training_sets(numbered([0, 0, 0, 1, 1], 0), arms)
    levels = {name: sorted(images[:, 0, 0].tolist()) for name, (images, _) in sets.items()}
    assert levels == {
        "real": [0, 1, 3, 4],
        "synthetic_baseline": [50, 51, 52, 53],
        "synthetic": [100, 101, 102, 103],
        "real_and_synthetic": [0, 1, 3, 4, 100, 101, 102, 103],
        "real_twice": [0, 0, 1, 1, 3, 3, 4, 4],
    }
    assert all(np.bincount(labels).tolist() in ([2, 2], [4, 4]) for _, labels in sets.values())


def test_noise_teaches_nothing_and_good_images_do():
    labels, test = np.arange(64) % 2, np.arange(60) % 2
    noise = np.random.default_rng(1).integers(256, size=(64, 32, 32), dtype=np.uint8)
    arms = {"baseline": (noise, labels), "lora": (images_of(labels, 2), labels)}
    sets = training_sets((images_of(labels, 0), labels), arms)
    result = utility(sets, (images_of(test, 3), test), ("left", "right"), EVALUATION, torch.device("cpu"))
    accuracy = {name: score.balanced_accuracy.value for name, score in result.sets.items()}
    assert min(accuracy["real"], accuracy["synthetic"], accuracy["real_and_synthetic"]) > 0.9
    assert accuracy["synthetic_baseline"] < 0.8
    assert result.sets["real_twice"].n == result.sets["real_and_synthetic"].n == 128
    gain = accuracy["real_and_synthetic"] - accuracy["real_twice"]
    assert result.gains["real_twice"].value == pytest.approx(gain)
    assert set(result.gains) == {"real", "real_twice"}
    assert result.n_test == 60
    left, right = result.sets["real"].recall["left"], result.sets["real"].recall["right"]
    assert (left.value + right.value) / 2 == pytest.approx(accuracy["real"])


def test_classifiers_of_a_set_have_different_seeds(monkeypatch):
    seeds = []
    train_judge = utility_module.train_judge

    def record(*args, seed, **settings):
        seeds.append(seed)
        return train_judge(*args, seed=seed, **settings)

    monkeypatch.setattr(utility_module, "train_judge", record)
    labels = np.arange(8) % 2
    images = images_of(labels, 0), labels
    sets = training_sets(images, {"baseline": images, "lora": images})
    evaluation = Evaluation(bootstrap=50, utility_epochs=1, utility_seeds=3, seed=5)
    utility(sets, images, ("left", "right"), evaluation, torch.device("cpu"))
    assert seeds == [5, 6, 7] * 5


def test_recalls_and_their_interval():
    labels = np.repeat([0, 1], [300, 100])
    correct = np.random.default_rng(0).random((4, 400)) < np.where(labels == 0, 0.9, 0.6)
    recalls, resampled = resampled_recalls(correct.astype(float), labels, 2, EVALUATION)
    assert recalls == pytest.approx([correct[:, :300].mean(), correct[:, 300:].mean()])
    assert resampled.shape == (400, 2)
    assert resampled.mean(0) == pytest.approx(recalls, abs=0.01)
    of_images = correct[:, 300:].mean(0).std() / 100**0.5
    of_seeds = correct[:, 300:].mean(1).std() / 4**0.5
    assert resampled[:, 1].std() == pytest.approx(np.hypot(of_images, of_seeds), rel=0.4)


def test_recall_of_a_class_without_test_images_is_undefined():
    recalls, resampled = resampled_recalls(np.ones((2, 3)), np.zeros(3, int), 2, EVALUATION)
    assert recalls[0] == 1
    assert np.isnan(recalls[1])
    assert np.isnan(resampled[:, 1]).all()
    assert Estimate.from_resamples(recalls[1], resampled[:, 1]) is None
