"""The judge learns the labels it is given, in the channels it is given, and depends only on its seed."""

import numpy as np
import pytest
import torch

from vdm_pipeline.stages.evaluation.judge import Judge, train_judge

CPU = torch.device("cpu")


def discs(n: int, seed: int, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Noise at 32 px; class 1 has a bright disc somewhere."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    rows, columns = np.mgrid[:32, :32]
    images = rng.normal(90, 12, (n, 32, 32))
    for image, label in zip(images, labels, strict=True):
        centre = rng.integers(9, 23, 2)
        if label:
            image[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 36] += 70
    return images.clip(0, 255).astype(np.uint8), labels


def noise(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(n, 32, 32), dtype=np.uint8)


def train(seed: int = 0, epochs: int = 3, share: float = 0.5) -> Judge:
    images, labels = discs(200, 1, share)
    return train_judge(images, labels, classes=2, epochs=epochs, seed=seed, device=CPU)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train()


def test_learns_a_disc_and_returns_probabilities(judge):
    images, labels = discs(300, 2)
    probabilities = judge.probabilities(images)
    assert probabilities.shape == (300, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (probabilities.argmax(1) == labels).mean() > 0.9


def test_learns_the_labels_and_not_the_brightness():
    images, labels = discs(200, 1)
    flipped = train_judge(images, 1 - labels, classes=2, epochs=3, seed=0, device=CPU)
    held_out, truth = discs(200, 2)
    assert (flipped.probabilities(held_out).argmax(1) == truth).mean() < 0.1


def test_grey_equals_three_equal_channels(judge):
    images, _ = discs(20, 3)
    rgb = np.repeat(images[..., None], 3, axis=3)
    np.testing.assert_array_equal(judge.probabilities(images), judge.probabilities(rgb))


def hues(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise at 32 px that is red in class 1 and blue in class 0; the mean of the channels is the same."""
    labels, tint = np.arange(n) % 2, np.array([[-40, 0, 40], [40, 0, -40]])
    images = np.random.default_rng(seed).integers(60, 180, (n, 32, 32, 1)) + tint[labels][:, None, None]
    return images.astype(np.uint8), labels


def test_colour_alone_can_tell_classes_apart():
    judge = train_judge(*hues(200, 0), classes=2, epochs=3, seed=0, device=CPU)
    images, labels = hues(100, 1)
    assert (judge.probabilities(images).argmax(1) == labels).mean() > 0.95
    grey = judge.probabilities(images[..., 1])  # grey images may be judged in colour
    np.testing.assert_array_equal(grey, judge.probabilities(np.repeat(images[..., 1:2], 3, axis=3)))


def test_exposure_has_little_effect(judge):
    images, _ = discs(40, 4)
    darker = (images * 0.6 + 5).astype(np.uint8)
    assert np.abs(judge.probabilities(images) - judge.probabilities(darker)).max() < 0.2


def test_other_images_do_not_change_a_probability(judge):
    images, _ = discs(300, 5)
    np.testing.assert_allclose(judge.probabilities(images)[-3:], judge.probabilities(images[-3:]), atol=1e-5)
    np.testing.assert_array_equal(judge.probabilities(images[:9]), judge.probabilities(images[:9]))


def test_only_the_seed_changes_the_judge(judge):
    images, _ = discs(20, 6)
    torch.manual_seed(123)
    again = train().probabilities(images)
    np.testing.assert_array_equal(again, judge.probabilities(images))
    assert np.abs(train(seed=1).probabilities(images) - again).max() > 0


def test_a_rare_class_is_learned():
    judge = train(share=0.05)
    images, labels = discs(200, 7)
    assert (judge.probabilities(images[labels == 1]).argmax(1) == 1).mean() > 0.8


def test_a_rare_class_has_the_same_weight():
    """On noise, only the frequency of the classes can be learned."""
    labels = (np.arange(200) % 10 == 0).astype(np.int64)
    judge = train_judge(noise(200, 0), labels, classes=2, epochs=6, seed=0, device=CPU)
    assert judge.probabilities(noise(100, 1))[:, 1].mean() > 0.35
