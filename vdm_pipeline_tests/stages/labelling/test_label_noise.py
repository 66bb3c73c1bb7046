"""Flipped labels are found, and few others."""

import numpy as np
import pandas as pd

from vdm_pipeline.stages.labelling.label_noise import find_suspects, out_of_sample_probabilities, rare_classes

NAMES = ("normal", "pneumonia", "other")


def clouds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    return (3 * np.eye(3, 12)[truth] + rng.standard_normal((n, 12))).astype(np.float32), truth


def frame(labels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"image_id": [f"x_{i:06d}" for i in range(len(labels))], "auto_label": [NAMES[i] for i in labels]}
    )


def test_flipped_labels_are_found():
    embeddings, truth = clouds(600)
    flipped = np.random.default_rng(1).choice(600, 30, replace=False)
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + 1) % 3
    suspects = find_suspects(embeddings, frame(labels), "auto_label", NAMES, seed=0)
    found = {int(name[-6:]) for name in suspects["image_id"]}
    assert len(found & set(flipped.tolist())) >= 25
    assert len(found - set(flipped.tolist())) <= 15
    is_corrected = [NAMES[truth[int(row.image_id[-6:])]] == row.suggested for row in suspects.itertuples()]
    assert np.mean(is_corrected) > 0.7
    assert suspects["quality"].is_monotonic_increasing


def test_the_probe_does_not_see_the_labels_it_judges():
    rng = np.random.default_rng(2)
    embeddings, labels = rng.standard_normal((120, 80)).astype(np.float32), rng.integers(0, 2, 120)
    agreed = out_of_sample_probabilities(embeddings, labels, 0).argmax(1) == labels
    assert agreed.mean() < 0.65  # a probe trained on them would agree with nearly all


def test_a_rare_class_is_not_judged_and_the_others_are():
    embeddings, truth = clouds(300)
    labels = np.where(truth == 2, 0, truth)
    labels[:3] = 2
    assert rare_classes(frame(labels)["auto_label"], NAMES) == ["other"]
    suspects = find_suspects(embeddings, frame(labels), "auto_label", NAMES, seed=0)
    assert set(suspects["label"]) | set(suspects["suggested"]) <= {"normal", "pneumonia"}
    flipped = labels.copy()
    wrong = [31 + 9 * i for i in range(10)]  # truly pneumonia
    flipped[wrong] = 0
    found = set(find_suspects(embeddings, frame(flipped), "auto_label", NAMES, seed=0)["image_id"])
    assert len(found & {f"x_{i:06d}" for i in wrong}) >= 7


def test_a_single_class_is_not_judged():
    embeddings, _ = clouds(20)
    labels = np.zeros(20, int)
    labels[:3] = 1
    assert find_suspects(embeddings, frame(labels), "auto_label", NAMES, seed=0).empty
