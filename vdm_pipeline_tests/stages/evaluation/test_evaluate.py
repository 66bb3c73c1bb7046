"""Both arms against real images: which images are compared with which, and who judges them."""

from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import dagster as dg
import numpy as np
import pytest
import torch

from vdm_pipeline.assets import evaluation as assets
from vdm_pipeline.io.images import resize, write_png
from vdm_pipeline.io.store import Store
from vdm_pipeline.io.tables import read_json, write_rows
from vdm_pipeline.resources import Run, Stored
from vdm_pipeline.settings import Evaluation
from vdm_pipeline.stages.archive import Archive, Split, obtain_archive
from vdm_pipeline.stages.evaluation import evaluate

NAMES = ("left", "right")
TURNED = 30
"""Test images, of 40, that are labelled against train's rule; all of val is, so that it shows who taught the judge."""


def halves_lit(sides: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Noise ``[n, size, size]``, brighter on the left where ``sides`` is 0 and on the right where it is 1."""
    rng = np.random.default_rng(seed)
    right = np.arange(size) >= size // 2
    light = np.where(right[None, None, :] == sides[:, None, None].astype(bool), 190, 60)
    return rng.normal(light, 25, (len(sides), size, size)).clip(0, 255).astype(np.uint8)


def pixels(images: np.ndarray) -> np.ndarray:
    """An embedding that needs no model: the pixels as a unit vector."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def write_arm(folder: Path, images: np.ndarray, labels: list[str], chroma: list[float]) -> None:
    names = [f"gen_{i:03d}.png" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        write_png(folder / name, image)
    write_rows(folder / "metadata.jsonl", [dict(file_name=n, label=k, chroma=c) for n, k, c in zip(names, labels, chroma, strict=True)])


def naive_kid(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD with the kernel ``(cosine + 1)³``, pair by pair."""
    pairs = {}
    for name, one, other in (("xx", x, x), ("yy", y, y), ("xy", x, y)):
        pairs[name] = mean((float(a @ b) + 1) ** 3 for i, a in enumerate(one) for j, b in enumerate(other) if i != j or name == "xy")
    return pairs["xx"] + pairs["yy"] - 2 * pairs["xy"]


SIDES = {
    "train": np.arange(256) % 2,
    "val": np.arange(24) % 2,
    "test": np.arange(40) % 2,
    "baseline": np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),  # intended: five of each
    "lora": np.array([0, 0, 0, 1, 0, 0, 1, 1]),  # intended: four of each
}
IMAGES = {name: halves_lit(sides, 16 if name in ("baseline", "lora") else 32, seed) for seed, (name, sides) in enumerate(SIDES.items())}
INTENDED = {"baseline": np.repeat([1, 0], 5), "lora": np.repeat([0, 1], 4)}
LABELS = {"train": SIDES["train"], "val": 1 - SIDES["val"], "test": SIDES["test"] ^ (np.arange(40) < TURNED)}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("arms")
    for name, intended in INTENDED.items():
        write_arm(root / name, IMAGES[name], [NAMES[i] for i in intended], [len(name) + i for i in range(len(intended))])
    splits = {name: Split.of(IMAGES[name], labels) for name, labels in LABELS.items()}
    return evaluate(
        archive=Archive("phantom", 32, splits, root, "", "", "phantom"),
        arms={name: root / name for name in INTENDED},
        class_names=NAMES,
        resolution=16,
        embed=pixels,
        feature_space="pixels",
        evaluation=Evaluation(judge_epochs=1, bootstrap=50),
        device=torch.device("cpu"),
    )


def test_judge_learns_from_train_and_is_scored_on_test(report):
    judge = report["judge"]
    assert (judge["n_train"], judge["n_held_out"]) == (256, 40)
    assert judge["accuracy_held_out"] == pytest.approx(1 - TURNED / 40)


def test_real_row_is_val_against_val(report):
    real = report["real"]["overall"]
    assert real["n"] + real["n_reference"] == 24
    assert real["label_agreement"]["value"] == 0


@pytest.mark.parametrize(("arm", "shares"), [("baseline", {"overall": 0, "left": 0, "right": 0}), ("lora", {"left": 0.75, "right": 0.5})])
def test_agreement_is_with_the_intended_class(report, arm, shares):
    assert {group: report[arm][group]["label_agreement"]["value"] for group in shares} == shares


@pytest.mark.parametrize("arm", INTENDED)
def test_arm_has_the_figures_of_its_own_folder(report, arm):
    counts = {group: report[arm][group]["n"] for group in ("overall", *NAMES)}
    n = len(INTENDED[arm])
    assert counts == {"overall": n, "left": n // 2, "right": n // 2}
    assert report[arm]["overall"]["chroma"]["value"] == pytest.approx(len(arm) + (n - 1) / 2)


@pytest.mark.parametrize("arm", INTENDED)
@pytest.mark.parametrize("group", ["overall", *NAMES])
def test_kid_is_to_the_val_images_of_the_same_class(report, arm, group):
    mine = INTENDED[arm] == NAMES.index(group) if group in NAMES else slice(None)
    theirs = LABELS["val"] == NAMES.index(group) if group in NAMES else slice(None)
    val = resize(IMAGES["val"], 16)[theirs]
    assert report[arm][group]["kid"]["value"] == pytest.approx(naive_kid(pixels(IMAGES[arm][mine]), pixels(val)), abs=1e-5)
    assert report[arm][group]["n_reference"] == len(val)


def test_asset_gives_each_arm_its_own_folder(tiny, project, monkeypatch):
    obtain_archive(tiny.data, project / "data", print)
    names = [name for name in tiny.classes.names for _ in range(3)]
    noise = np.random.default_rng(0).integers(256, size=(6, 64, 64), dtype=np.uint8)
    write_arm(project / "lora", np.full((6, 64, 64), 90, np.uint8), names, [1] * 6)
    write_arm(project / "baseline", noise, names, [2] * 6)
    labeller = SimpleNamespace(embed=lambda images, batch, progress: pixels(images))
    monkeypatch.setattr("vdm_pipeline.stages.zero_shot.ZeroShot", lambda *arguments: labeller)
    monkeypatch.setattr(assets, "materialize", lambda context, run, work: work(project) and dg.MaterializeResult())
    upstream = {
        "raw_npz": Stored("raw_npz", {"archive": project / "data" / tiny.data.file_name}, ""),
        "generated_images": Stored("generated_images", {"folder": project / "lora"}, ""),
        "baseline_images": Stored("baseline_images", {"folder": project / "baseline"}, ""),
    }
    assets.image_metrics(dg.build_asset_context(resources={"run": Run(tiny, Store(project))}), **upstream)
    report = read_json(project / "metrics/image_metrics.json")
    assert {arm: report[arm]["overall"]["chroma"]["value"] for arm in ("baseline", "lora")} == {"baseline": 2, "lora": 1}
    assert report["lora"]["overall"]["sharpness"]["value"] == 0 < report["baseline"]["overall"]["sharpness"]["value"]
