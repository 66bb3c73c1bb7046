"""The judge: it learns what can be learnt, sees grey alone, and is the same each time."""

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


def train(seed: int = 0, epochs: int = 3, share: float = 0.5) -> Judge:
    images, labels = discs(200, 1, share)
    return train_judge(images, labels, classes=2, epochs=epochs, seed=seed, device=CPU)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train()


def test_learns_a_disc_and_gives_probabilities(judge):
    images, labels = discs(300, 2)
    probabilities = judge.probabilities(images)
    assert probabilities.shape == (300, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (probabilities.argmax(1) == labels).mean() > 0.9


def test_labels_are_what_it_learns():
    images, labels = discs(200, 1)
    turned = train_judge(images, 1 - labels, classes=2, epochs=3, seed=0, device=CPU)
    held_out, truth = discs(200, 2)
    assert (turned.probabilities(held_out).argmax(1) == truth).mean() < 0.1


def test_grey_counts_as_its_three_equal_channels(judge):
    images, _ = discs(20, 3)
    np.testing.assert_array_equal(
        judge.probabilities(images), judge.probabilities(np.repeat(images[..., None], 3, axis=3))
    )


def test_exposure_does_not_decide(judge):
    images, _ = discs(40, 4)
    darker = (images * 0.6 + 5).astype(np.uint8)
    assert np.abs(judge.probabilities(images) - judge.probabilities(darker)).max() < 0.2


def test_an_image_is_judged_alone(judge):
    images, _ = discs(300, 5)
    np.testing.assert_allclose(judge.probabilities(images)[-3:], judge.probabilities(images[-3:]), atol=1e-5)
    np.testing.assert_array_equal(judge.probabilities(images[:9]), judge.probabilities(images[:9]))


def test_same_seed_same_judge_and_another_seed_another(judge):
    images, _ = discs(20, 6)
    torch.manual_seed(123)
    again = train().probabilities(images)
    np.testing.assert_array_equal(again, judge.probabilities(images))
    assert np.abs(train(seed=1).probabilities(images) - again).max() > 0


def test_rare_class_is_not_given_up():
    judge = train(share=0.05)
    images, labels = discs(200, 7)
    assert (judge.probabilities(images[labels == 1]).argmax(1) == 1).mean() > 0.8


def test_rare_classes_weigh_as_much():
    """On noise there is nothing to learn but how frequent the classes are."""
    images = np.random.default_rng(0).integers(256, size=(200, 32, 32), dtype=np.uint8)
    judge = train_judge(
        images, (np.arange(200) % 10 == 0).astype(np.int64), classes=2, epochs=6, seed=0, device=CPU
    )
    rare = judge.probabilities(np.random.default_rng(1).integers(256, size=(100, 32, 32), dtype=np.uint8))[
        :, 1
    ].mean()
    assert rare > 0.35
