"""Everything together: which images are compared with which, who judges them, and what the report holds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vdm_pipeline.io.images import resize, write_png
from vdm_pipeline.io.tables import write_rows
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.data.grey import to_grey
from vdm_pipeline.stages.evaluation import evaluate as module
from vdm_pipeline.stages.evaluation.evaluate import EvaluationInputs, evaluate
from vdm_pipeline.stages.evaluation.features import Space
from vdm_pipeline.stages.evaluation.metrics.kernels import polynomial_kernel, squared_mmd

NAMES = ("left", "right")
TURNED = 30
"""Test images, of 40, that are labelled against train's rule; all of val is, so that it shows who taught the judge."""
COPIED = 4
"""LoRA images that are training images."""


def halves_lit(sides: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Noise ``[n, size, size]``, brighter on the left where ``sides`` is 0 and on the right where it is 1."""
    rng = np.random.default_rng(seed)
    right = np.arange(size) >= size // 2
    light = np.where(right[None, None, :] == sides[:, None, None].astype(bool), 190, 60)
    return rng.normal(light, 25, (len(sides), size, size)).clip(0, 255).astype(np.uint8)


def pixels(images: np.ndarray) -> np.ndarray:
    """An embedding that needs no model: the pixels."""
    return images.reshape(len(images), -1).astype(np.float32)


def write_folder(folder: Path, images: np.ndarray, rows: list[dict]) -> Path:
    for row, image in zip(rows, images, strict=True):
        write_png(folder / row["file_name"], image)
    write_rows(folder / "metadata.jsonl", rows)
    return folder


SIDES = {
    "train": np.arange(256) % 2,
    "val": np.arange(48) % 2,
    "test": np.arange(40) % 2,
    "baseline": np.array([0] * 10 + [1] * 10),  # intended: right for the first ten
    "lora": np.array(
        [0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]
    ),  # intended: left for the first ten; the first four are replaced
}
IMAGES = {
    name: halves_lit(sides, 16 if name in ("baseline", "lora") else 32, seed)
    for seed, (name, sides) in enumerate(SIDES.items())
}
INTENDED = {"baseline": np.repeat([1, 0], 10), "lora": np.repeat([0, 1], 10)}
LABELS = {"train": SIDES["train"], "val": 1 - SIDES["val"], "test": SIDES["test"] ^ (np.arange(40) < TURNED)}
SUBSET = list(range(40))
DUPLICATE = 5
"""Val image that a train image repeats."""
IMAGES["lora"][:COPIED] = resize(IMAGES["train"][SUBSET[:COPIED]], 16)


def run(
    root: Path,
    subset: list[int],
    *,
    colour: bool = False,
    copied_val: np.ndarray | tuple = (),
    captions: str = "",
) -> dict:
    """Evaluate; ``subset`` are the train images that the adapter knows, ``copied_val`` more val images that train repeats.

    ``captions`` is the class of all captions, if these are not the true labels.
    """
    for name, intended in INTENDED.items():
        rows = [
            {"file_name": f"gen_{i:03d}.png", "label": NAMES[k], "chroma": len(name) + i}
            for i, k in enumerate(intended)
        ]
        write_folder(
            root / name, np.repeat(IMAGES[name][..., None], 3, axis=3) if colour else IMAGES[name], rows
        )
    ids = [f"phantom_train_{i:06d}" for i in subset]
    truth = [NAMES[i] for i in LABELS["train"][subset]]
    rows = [
        {"file_name": f"images/{n}.png", "image_id": n, "label": captions or k, "ground_truth": k}
        for n, k in zip(ids, truth, strict=True)
    ]
    write_folder(root / "subset", IMAGES["train"][subset], rows)
    twin = {
        "image_id": "phantom_train_000099",
        "split": "train",
        "twin": f"phantom_val_{DUPLICATE:06d}",
        "twin_split": "val",
    }
    twins = [
        twin | {"image_id": f"phantom_val_{i:06d}", "split": "val", "twin_split": "train"} for i in copied_val
    ]
    splits = {name: Split.of(IMAGES[name], labels) for name, labels in LABELS.items()}
    return evaluate(
        EvaluationInputs(
            archive=Archive("phantom", 32, splits, root, "", "", "phantom"),
            faults=pd.DataFrame([twin, *twins]),
            subset=root / "subset",
            arms={name: root / name for name in INTENDED} | {"third": root / "lora"},
            class_names=NAMES,
            resolution=16,
        ),
        {
            "labeller": Space("pixels", lambda x: pixels(to_grey(x))),
            "independent": Space("rows", lambda x: to_grey(x).mean(2)),
        },
        Evaluation(judge_epochs=1, bootstrap=50, utility_epochs=1, utility_seeds=1),
        torch.device("cpu"),
        lambda line: None,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    return run(tmp_path_factory.mktemp("arms"), SUBSET)


def unit(images: np.ndarray) -> np.ndarray:
    return Space("pixels", pixels)(images)


def reference() -> tuple[np.ndarray, np.ndarray]:
    rows = [i for i in range(48) if i != DUPLICATE]
    return resize(IMAGES["val"][rows], 16), LABELS["val"][rows]


def test_judge_learns_from_train_and_is_scored_on_test(report):
    judge = report["judge"]
    assert (judge["n_train"], judge["n_held_out"]) == (256 - 20, 40)  # without the images of the real row
    assert judge["accuracy_held_out"] == pytest.approx(1 - TURNED / 40)


def test_reference_is_val_without_duplicates(report):
    assert report["reference"] == {"split": "val", "n": 47, "left_out": 1, "absent": []}
    assert report["feature_spaces"] == {"labeller": "pixels", "independent": "rows"}


def test_real_row_is_of_unseen_train_images_as_many_as_an_arm_has(report):
    assert [report["real"][group]["n"] for group in ("overall", *NAMES)] == [20, 10, 10]
    assert (
        report["real"]["overall"]["label_agreement"]["value"] == 1
    )  # train's labels are as the judge learnt them
    assert report["real_to_test"]["overall"]["n_reference"] > 2
    assert report["real_to_test"]["overall"]["kid"] != report["real"]["overall"]["kid"]


@pytest.mark.parametrize(
    ("arm", "shares"),
    [("baseline", {"overall": 0, "left": 0, "right": 0}), ("lora", {"left": 0.6, "right": 0.7})],
)
def test_agreement_is_with_the_intended_class(report, arm, shares):
    assert {group: report[arm][group]["label_agreement"]["value"] for group in shares} == pytest.approx(
        shares
    )


@pytest.mark.parametrize("arm", INTENDED)
def test_arm_has_the_figures_of_its_own_folder(report, arm):
    assert {group: report[arm][group]["n"] for group in ("overall", *NAMES)} == {
        "overall": 20,
        "left": 10,
        "right": 10,
    }
    assert report[arm]["overall"]["chroma"]["value"] == pytest.approx(len(arm) + 9.5)


@pytest.mark.parametrize("arm", INTENDED)
@pytest.mark.parametrize("name", NAMES)
def test_kid_is_to_the_val_images_of_the_same_class(report, arm, name):
    images, labels = reference()
    mine, theirs = IMAGES[arm][INTENDED[arm] == NAMES.index(name)], images[labels == NAMES.index(name)]
    assert report[arm][name]["kid"]["value"] == pytest.approx(
        squared_mmd(unit(mine), unit(theirs), polynomial_kernel)
    )
    assert report[arm][name]["n_reference"] == len(theirs)


def test_extra_arms_are_measured_as_the_others(report):
    assert report["extra"] == {"third": report["lora"]}


def test_pairs_are_lora_minus_baseline(report):
    spread = report["paired"]["chroma"]["overall"]
    assert spread["value"] == pytest.approx(len("lora") - len("baseline"))
    assert report["paired"]["label_agreement"]["left"]["value"] == pytest.approx(0.6 - 0)
    images, labels = reference()
    nearest = []
    for arm in ("lora", "baseline"):
        apart = np.linalg.norm(unit(IMAGES[arm])[:, None] - unit(images), axis=2)
        nearest.append(np.where(INTENDED[arm][:, None] == labels, apart, np.inf).min(1))
    found = report["paired"]["nearest_real_labeller"]["left"]
    mine = INTENDED["lora"] == 0
    assert found["value"] == pytest.approx((nearest[0] - nearest[1])[mine].mean())


def test_copies_are_found_among_the_training_images(report):
    arms, closest = report["memorization"]["arms"], report["memorization"]["closest"]["labeller"]
    assert set(arms) == {"real", "baseline", "lora", "third"}
    assert (arms["lora"]["labeller"]["n_train"], arms["lora"]["labeller"]["n_held_out"]) == (40, 46)
    first = sorted((pair["arm"], pair["file_name"], pair["train_image"]) for pair in closest[: 2 * COPIED])
    assert first == [
        (arm, f"gen_{i:03d}.png", f"phantom_train_{i:06d}")
        for arm in ("lora", "third")
        for i in range(COPIED)
    ]
    assert all(pair["held_out_image"].startswith("phantom_val_") for pair in closest)
    assert arms["lora"]["labeller"]["copied"]["value"] > arms["baseline"]["labeller"]["copied"]["value"]
    assert arms["lora"]["duplicates"]["exact"] == 0
    assert [arms[arm]["duplicates"]["of_training"] for arm in ("real", "baseline", "lora", "third")] == [
        0,
        0,
        COPIED,
        COPIED,
    ]


def test_utility_is_tested_on_test(report):
    assert report["utility"]["n_test"] == 40
    assert {name: values["n"] for name, values in report["utility"]["sets"].items()} == {
        "real": 20,
        "synthetic_baseline": 20,
        "synthetic": 20,
        "real_and_synthetic": 40,
        "real_twice": 40,
    }


def test_report_is_plain_json_and_the_same_again(report):
    import json

    assert json.loads(json.dumps(report)) == report


def test_colour_images_of_a_grey_archive_have_the_same_figures(report, tmp_path):
    assert run(tmp_path, SUBSET, colour=True) == report


def test_a_subset_that_took_all_of_train_leaves_no_real_row(tmp_path):
    report = run(tmp_path, list(range(256)))
    assert report["real"]["overall"]["n"] == 0
    assert report["real"]["overall"]["kid"] is report["real"]["overall"]["sharpness"] is None
    assert "real" not in report["memorization"]["arms"]
    assert report["memorization"]["arms"]["lora"]["duplicates"]["labeller"] is None
    assert report["lora"]["overall"]["kid"] is not None


def test_a_class_without_reference_is_named_and_the_other_is_measured(tmp_path):
    report = run(tmp_path, SUBSET, copied_val=np.flatnonzero(LABELS["val"] == 1))
    assert report["reference"]["absent"] == [NAMES[1]]
    assert report["lora"]["overall"]["kid"] is report["lora"][NAMES[1]]["kid"] is None
    assert report["lora"][NAMES[0]]["kid"] is not None


def test_classifiers_learn_real_images_by_the_labels_of_their_captions(tmp_path, monkeypatch):
    learnt = {}
    real = module.training_sets
    monkeypatch.setattr(
        module, "training_sets", lambda images, arms: learnt.update(real=images[1]) or real(images, arms)
    )
    run(tmp_path, SUBSET, captions="right")
    assert learnt["real"].tolist() == [1] * len(SUBSET)
