"""Archives of other kinds need only a profile for labels and subset: the code knows no classes."""

import hashlib
import json
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vdm_pipeline.settings import Profile, load_profile
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.training import sample_sheet
from vdm_pipeline_tests.defs.assets.graph import TO_THE_SUBSET, error_message, materialize

COUNTS = {"train": 280, "val": 70, "test": 70}
BREAST = ("malignant", "benign")
DERMA = ("keratosis", "basal_cell", "benign_keratosis", "dermatofibroma", "melanoma", "nevus", "vascular")
THREE = ("none", "some", "much")
ELEVEN = (*DERMA, "train", "val", "test", "eval")


def films(first: int, labels: np.ndarray, n_classes: int, channels: int, size: int) -> np.ndarray:
    """Phantoms. Every second class has opaque lungs, and each its own brightness or hue."""
    drawn = render(first, np.arange(len(labels)), labels % 2 == 1, size)
    strength = np.linspace(1, 0.4, n_classes)[labels][:, None, None]
    if channels == 1:
        return (drawn * strength).astype(np.uint8)
    hue = np.stack([np.ones_like(strength), strength, 1.4 - strength], axis=-1)
    return (drawn[..., None] * hue).astype(np.uint8)


WORDS = [
    "healthy lungs",
    "pneumonia",
    "consolidation",
    "clear lungs",
    "lung opacity",
    "a normal chest",
    "an infiltrate",
    "a liver",
    "a kidney",
    "a spleen",
    "a bladder",
]
PROFILE = """
name = "mine"
[data]
dataset = "mine"
source = "file"
size = {size}
own = {{ channels = {channels}, sha256 = "{sha256}", licence = "CC0" }}
[classes]
names = {names}
phrases = {names}
template = "{{phrase}}, an image"
[labelling]
model = {{ id = "embedded:clip", licence = "MIT" }}
templates = ["an image of {{phrase}}", "{{phrase}}"]
phrases = {phrases}
calibration = "{calibration}"
decision = "{decision}"
[subset]
per_class = 3
captions_from = "{captions_from}"
validation_per_class = 2
[training]
base = {{ id = "embedded:sd", licence = "MIT" }}
resolution = 64
max_train_steps = 6
batch_size = 4
[generation]
lcm_lora = {{ id = "embedded:lcm_lora", licence = "MIT" }}
per_class = 2
[evaluation]
bootstrap = 100
judge_epochs = 1
utility_epochs = 1
utility_seeds = 1
[checks]
min_purity = 0.3  # the embedded labeller knows two of these words
"""


def write_archive(path: Path, n_classes: int, channels: int, size: int) -> str:
    """Write the archive; returns its sha256."""
    arrays = {}
    for index, (split, count) in enumerate(COUNTS.items()):
        labels = np.arange(count) % n_classes
        arrays[f"{split}_images"] = films(1000 * index, labels, n_classes, channels, size)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)[:, None]
    write_npz(path, arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def profile_of(
    project: Path, names: tuple[str, ...], channels: int, captions_from: str, size: int = 28
) -> Profile:
    """Write the archive and the profile as a user would, and load it."""
    automatic = captions_from == "auto_label"
    file_name = "data/mine.npz" if size == 28 else f"data/mine_{size}.npz"
    text = PROFILE.format(
        channels=channels,
        size=size,
        sha256=write_archive(project / file_name, len(names), channels, size),
        names=json.dumps(names),
        phrases=json.dumps([[word] for word in WORDS[: len(names)]]),
        calibration="platt" if automatic else "none",
        decision="balanced_accuracy" if automatic else "argmax",
        captions_from=captions_from,
    )
    (project / "mine.toml").write_text(text)
    return load_profile(str(project / "mine.toml"))


@pytest.mark.parametrize(
    ("names", "channels", "captions_from", "size"),
    [
        (BREAST, 1, "auto_label", 28),
        (DERMA, 3, "ground_truth", 28),
        (THREE, 1, "auto_label", 64),
        pytest.param(ELEVEN, 3, "ground_truth", 128, marks=pytest.mark.slow),
    ],
    ids=["two classes", "seven classes in colour", "three classes", "eleven classes in colour"],
)
def test_labels_and_subset_of_another_archive(project, names, channels, captions_from, size):
    profile = profile_of(project, names, channels, captions_from, size)
    result = materialize(profile, project, TO_THE_SUBSET)
    assert result.success, error_message(result)
    table = pd.read_csv(project / "results/labeled_dataset.csv", keep_default_na=False)
    assert len(table) == sum(COUNTS.values())
    probabilities = table[[f"p_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert set(table["ground_truth_label"]) == set(names)
    metrics = json.loads((project / "results/metrics/auto_label_metrics.json").read_text())
    right = (table["auto_label"] == table["ground_truth_label"])[table["split"] == "test"]
    assert metrics["test"]["accuracy"] == pytest.approx(right.mean())
    assert {"roc.png", "reliability.png", "confusion.png", "scores.png"} == {
        path.name for path in (project / "results/metrics/label_plots").iterdir()
    }
    rows = [json.loads(line) for line in (project / "data/subset/metadata.jsonl").read_text().splitlines()]
    assert [sum(row["label"] == name for row in rows) for name in names] == [3] * len(names)
    assert Image.open(project / "data/subset" / rows[0]["file_name"]).mode == {1: "L", 3: "RGB"}[channels]


def test_a_constant_labeller_only_causes_warnings_if_captions_are_true_labels(project):
    profile = profile_of(project, THREE, 1, "ground_truth")
    labelling = profile.labelling.model_dump() | {"calibration": "prior", "prior": (0.998, 0.001, 0.001)}
    profile = Profile.model_validate(profile.model_dump() | {"labelling": labelling})
    result = materialize(profile, project, TO_THE_SUBSET)
    assert result.success, error_message(result)
    table = pd.read_csv(project / "results/labeled_dataset.csv")
    assert set(table["auto_label"]) == {"none"}
    failed = {
        check.check_name: check.severity for check in result.get_asset_check_evaluations() if not check.passed
    }
    assert {"labels_predict_every_class", "labels_beat_chance"} <= set(failed)
    assert set(failed.values()) == {dg.AssetCheckSeverity.WARN}


@pytest.mark.slow
def test_seven_classes_in_colour_from_archive_to_report(project, monkeypatch):
    """True labels are the captions, so a labeller that never predicts a class only causes a warning."""
    monkeypatch.setattr(sample_sheet, "STEPS", 2)
    profile = profile_of(project, DERMA, 3, "ground_truth")
    result = materialize(profile, project)
    assert result.success, error_message(result)
    check = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert not check["labels_predict_every_class"].passed
    assert check["labels_predict_every_class"].severity == dg.AssetCheckSeverity.WARN
    assert check["images_are_grey"].passed
    metrics = json.loads((project / "results/metrics/image_metrics.json").read_text())
    assert metrics["real"]["overall"]["chroma"]["value"] > 5
    for folder in ("generated_images", "generated_images_no_fine_tuning"):
        paths = sorted((project / "results" / folder).glob("*.png"))
        assert {Image.open(path).mode for path in paths} == {"RGB"}
        assert len(paths) == 2 * len(DERMA)
        rows = [json.loads(line) for line in (paths[0].parent / "metadata.jsonl").read_text().splitlines()]
        values = np.array([np.asarray(Image.open(path), int) for path in paths])
        measured = (values.max(-1) - values.min(-1)).mean((1, 2))
        np.testing.assert_allclose([row["chroma"] for row in rows], measured, atol=1e-3)
        assert {row["grey"] for row in rows} == {False}
    assert "light and colour" in (project / "results/report/index.html").read_text()
