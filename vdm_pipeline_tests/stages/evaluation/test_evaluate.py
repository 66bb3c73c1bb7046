"""Which images are compared with which, what trains the judge, and what each result is about."""

import numpy as np
import pytest

from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.evaluation import evaluate as evaluate_module
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.metrics.kernels import polynomial_kernel, squared_mmd
from vdm_pipeline.stages.evaluation.results import ImageMetrics
from vdm_pipeline.stages.evaluation.spaces import INDEPENDENT, LABELLER
from vdm_pipeline.stages.evaluation.to_json import image_metrics_json
from vdm_pipeline_tests.stages.evaluation.example import (
    COPIED,
    DUPLICATE,
    FLIPPED,
    IMAGES,
    INTENDED,
    LABELS,
    NAMES,
    SUBSET,
    evaluate_example,
    pixels,
)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory) -> ImageMetrics:
    return evaluate_example(tmp_path_factory.mktemp("arms"))


def unit(images: np.ndarray) -> np.ndarray:
    return Space("pixels", pixels)(images)


def reference() -> tuple[np.ndarray, np.ndarray]:
    rows = [i for i in range(48) if i != DUPLICATE]
    return resize(IMAGES["val"][rows], 16), LABELS["val"][rows]


def test_judge_learns_from_train_and_is_scored_on_test(metrics):
    assert metrics.judge.n_train == 256 - 20  # without the images of the row real
    assert metrics.judge.n_test == 40
    assert metrics.judge.accuracy == pytest.approx(1 - FLIPPED / 40)


def test_reference_is_val_without_duplicates(metrics):
    assert (metrics.reference.n, metrics.reference.excluded) == (47, 1)
    assert metrics.reference.absent_classes == []
    assert metrics.feature_spaces == {LABELLER: "pixels", INDEPENDENT: "rows"}


def test_real_row_has_as_many_unseen_train_images_as_an_arm(metrics):
    real, to_test = metrics.real, metrics.real_to_test
    assert [real.overall.n, *(real.by_class[name].n for name in NAMES)] == [20, 10, 10]
    assert real.overall.means.label_agreement.value == 1  # the judge learned train's labels
    assert to_test.overall.n_reference > 2
    assert to_test.overall.spaces[LABELLER].kid != real.overall.spaces[LABELLER].kid


@pytest.mark.parametrize(
    ("arm", "left", "right"),
    [("baseline", 0, 0), ("lora", 0.6, 0.7)],
)
def test_agreement_is_with_the_intended_class(metrics, arm, left, right):
    groups = metrics.arms[arm].by_class
    assert groups["left"].means.label_agreement.value == pytest.approx(left)
    assert groups["right"].means.label_agreement.value == pytest.approx(right)


def test_agreement_overall_is_over_all_images(metrics):
    assert metrics.arms["baseline"].overall.means.label_agreement.value == 0


@pytest.mark.parametrize("arm", INTENDED)
def test_arm_has_the_figures_of_its_own_folder(metrics, arm):
    groups = metrics.arms[arm]
    assert [groups.overall.n, *(groups.by_class[name].n for name in NAMES)] == [20, 10, 10]
    assert groups.overall.means.chroma.value == pytest.approx(len(arm) + 9.5)


@pytest.mark.parametrize("arm", INTENDED)
@pytest.mark.parametrize("label", [0, 1])
def test_kid_is_to_the_val_images_of_the_same_class(metrics, arm, label):
    images, labels = reference()
    generated, real = IMAGES[arm][INTENDED[arm] == label], images[labels == label]
    group = metrics.arms[arm].by_class[NAMES[label]]
    expected = squared_mmd(unit(generated), unit(real), polynomial_kernel)
    assert group.spaces[LABELLER].kid.value == pytest.approx(expected)
    assert group.n_reference == len(real)


def test_extra_arms_are_measured_like_the_others(metrics):
    assert list(metrics.arms) == ["baseline", "lora", "third"]
    assert metrics.arms["third"] == metrics.arms["lora"]


def test_pairs_are_lora_minus_baseline(metrics):
    chroma = metrics.paired["chroma"]["overall"].difference
    assert chroma.value == pytest.approx(len("lora") - len("baseline"))
    assert metrics.paired["label_agreement"]["left"].difference.value == pytest.approx(0.6 - 0)


def test_pairs_have_the_distance_to_the_nearest_real_image_of_the_class(metrics):
    images, labels = reference()
    nearest = {}
    for arm in INTENDED:
        apart = np.linalg.norm(unit(IMAGES[arm])[:, None] - unit(images), axis=2)
        nearest[arm] = np.where(INTENDED[arm][:, None] == labels, apart, np.inf).min(1)
    left = INTENDED["lora"] == 0
    expected = (nearest["lora"] - nearest["baseline"])[left].mean()
    result = metrics.paired["nearest_real_labeller"]["left"]
    assert result.difference.value == pytest.approx(expected)


def test_copies_are_found_among_the_training_images(metrics):
    arms = metrics.memorisation.arms
    spaces = {name: arm.spaces[LABELLER] for name, arm in arms.items()}
    assert set(arms) == {"real", "baseline", "lora", "third"}
    assert (spaces["lora"].n_train, spaces["lora"].n_held_out) == (40, 46)
    assert spaces["lora"].figures.copied.value > spaces["baseline"].figures.copied.value
    assert arms["lora"].duplicates.exact == 0
    copies = {name: arm.duplicates.of_training for name, arm in arms.items()}
    assert copies == {"real": 0, "baseline": 0, "lora": COPIED, "third": COPIED}


def test_closest_pairs_name_the_arm_and_the_images(metrics):
    closest = metrics.memorisation.closest[LABELLER]
    first = sorted((pair.arm, pair.file_name, pair.train_image) for pair in closest[: 2 * COPIED])
    assert first == [
        (arm, f"gen_{i:03d}.png", f"phantom_train_{i:06d}")
        for arm in ("lora", "third")
        for i in range(COPIED)
    ]
    assert all(pair.held_out_image.startswith("phantom_val_") for pair in closest)


def test_single_copies_of_all_arms_but_the_real_one(metrics):
    single = metrics.memorisation.single_copies
    assert (single.n, single.n_held_out) == (60, 46)
    found = sorted((copy.arm, copy.file_name, copy.train_image) for copy in single.found)
    assert found == [
        (arm, f"gen_{i:03d}.png", f"phantom_train_{i:06d}")
        for arm in ("lora", "third")
        for i in range(COPIED)
    ]


def test_utility_is_tested_on_test(metrics):
    assert metrics.utility.n_test == 40
    assert {name: score.n for name, score in metrics.utility.sets.items()} == {
        "real": 20,
        "synthetic_baseline": 20,
        "synthetic": 20,
        "real_and_synthetic": 40,
        "real_twice": 40,
    }


def test_colour_images_of_a_grey_archive_have_the_same_results(metrics, tmp_path):
    assert evaluate_example(tmp_path, colour=True) == metrics


def test_a_subset_of_all_train_images_leaves_no_real_row(tmp_path):
    metrics = evaluate_example(tmp_path, list(range(256)))
    real, lora = metrics.real.overall, metrics.arms["lora"].overall
    assert real.n == 0
    assert real.spaces[LABELLER] is real.means is real.ms_ssim is None
    assert "real" not in metrics.memorisation.arms
    assert metrics.memorisation.arms["lora"].duplicates.share_alike[LABELLER] is None
    assert lora.spaces[LABELLER] is not None
    assert image_metrics_json(metrics)["real"]["overall"]["kid"] is None


def test_a_class_without_reference_is_named_and_the_other_one_is_measured(tmp_path):
    metrics = evaluate_example(tmp_path, copied_val=np.flatnonzero(LABELS["val"] == 1))
    lora = metrics.arms["lora"]
    assert metrics.reference.absent_classes == ["right"]
    assert lora.overall.spaces[LABELLER] is lora.by_class["right"].spaces[LABELLER] is None
    assert lora.by_class["left"].spaces[LABELLER] is not None


def test_classifiers_learn_real_images_with_the_labels_of_their_captions(tmp_path, monkeypatch):
    caption_labels = []
    training_sets = evaluate_module.training_sets

    def record(real, arms):
        caption_labels.extend(real[1].tolist())
        return training_sets(real, arms)

    monkeypatch.setattr(evaluate_module, "training_sets", record)
    evaluate_example(tmp_path, caption="right")
    assert caption_labels == [1] * len(SUBSET)
