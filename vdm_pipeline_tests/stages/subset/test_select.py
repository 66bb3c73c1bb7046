"""The subset: balanced, from train only, without duplicates, with the captions of generation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import read_folder
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.settings import Faults, Subset
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.data.quality import find_faults
from vdm_pipeline.stages.labelling.calibration import Calibration
from vdm_pipeline.stages.labelling.labels import label_table
from vdm_pipeline.stages.subset.select import (
    excluded_ids,
    maximal_marginal_relevance,
    select_subset,
    select_validation,
    write_subset,
)

N = 60
NAMES = ("normal", "pneumonia")


def split(n: int, rng: np.random.Generator) -> Split:
    return Split.from_arrays(rng.integers(0, 256, (n, 4, 4), dtype=np.uint8), np.arange(n) % 2)


@pytest.fixture
def archive() -> Archive:
    """Train rows 10 to 13 repeat 0 to 3; 20 is also in val, 21 in test."""
    rng = np.random.default_rng(0)
    splits = {"train": split(N, rng), "val": split(20, rng), "test": split(20, rng)}
    images = splits["train"].images
    images[10:14] = images[0:4]
    images[20], images[21] = splits["val"].images[7], splits["test"].images[9]
    return Archive("thing", 4, splits, Path("thing.npz"), "0" * 64, "0" * 32, "unverified")


@pytest.fixture
def table(archive) -> pd.DataFrame:
    """Labels of a labeller that is wrong on every fifth image."""
    rng = np.random.default_rng(1)
    probabilities = {}
    for name, part in archive.splits.items():
        predicted = np.where(np.arange(len(part)) % 5 == 0, 1 - part.labels, part.labels)
        top = rng.uniform(0.55, 0.99, len(part))
        probabilities[name] = np.where(np.eye(2)[predicted] == 1, top[:, None], 1 - top[:, None])
    argmax = Calibration("none", "argmax", 1.0, (0.0, 0.0), (0.5, 0.5))
    logits = {name: np.log(values) for name, values in probabilities.items()}
    return label_table(archive, logits, argmax, NAMES)


def rows(selected: pd.DataFrame) -> list[int]:
    """Positions in the split."""
    return [int(name.rsplit("_", 1)[1]) for name in selected["image_id"]]


def test_labels_are_in_the_archives_order(archive, table):
    assert table["image_id"].tolist() == [name for part in archive.splits for name in archive.image_ids(part)]
    train = table[table["split"] == "train"]
    wrong = train["auto_label"] != train["ground_truth_label"]
    assert np.flatnonzero(wrong).tolist() == list(range(0, N, 5))
    assert (train["ground_truth_label"] == [NAMES[i % 2] for i in range(N)]).all()
    assert np.allclose(table["confidence_score"], table[["p_normal", "p_pneumonia"]].max(axis=1))


def pixels(archive: Archive, split: str) -> np.ndarray:
    return archive.splits[split].images.reshape(len(archive.splits[split]), -1).astype(np.float32)


@pytest.fixture
def excluded(archive) -> set[str]:
    faults = find_faults(archive, lambda split: [pixels(archive, split)], Faults())
    return excluded_ids(faults, pd.DataFrame({"image_id": []}), Subset(per_class=1))


@pytest.fixture
def select(archive, table, excluded, tiny) -> Callable[..., pd.DataFrame]:
    vectors = pixels(archive, "train") - pixels(archive, "train").mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return lambda labels=table, **settings: select_subset(
        labels, vectors, excluded, Subset(**settings), tiny.classes
    )


def test_duplicates_and_held_out_images_are_excluded(excluded):
    assert sorted(excluded) == [f"thing_train_{row:06d}" for row in (10, 11, 12, 13, 20, 21)]


def test_listed_kinds_are_excluded_and_held_out_images_always():
    columns = ["image_id", "split", "fault", "twin", "twin_split"]
    rows = [
        ("a", "train", "duplicate", "b", "train"),
        ("c", "train", "duplicate", "d", "val"),
        ("e", "train", "blank", None, None),
    ]
    faults, suspects = pd.DataFrame(rows, columns=columns), pd.DataFrame({"image_id": ["s"]})
    cases = {(): {"c"}, ("blank",): {"c", "e"}, ("duplicate", "suspect"): {"a", "c", "s"}}
    for kinds, expected in cases.items():
        assert excluded_ids(faults, suspects, Subset(per_class=1, exclude=kinds)) == expected


def test_diversity_lowers_the_similarity():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    confidence = (vectors[:, 0] + 1) / 2  # the most confident are similar
    confident = maximal_marginal_relevance(confidence, vectors, 30, diversity=0)
    assert sorted(confident) == sorted(np.argsort(-confidence)[:30])
    diverse = maximal_marginal_relevance(confidence, vectors, 30, diversity=0.5)
    assert len(set(diverse)) == 30
    similarity = [np.triu(vectors[rows] @ vectors[rows].T, 1).sum() for rows in (confident, diverse)]
    assert similarity[1] < 0.75 * similarity[0]
    assert confidence[diverse].mean() > confidence.mean()


def test_each_step_equals_brute_force():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    confidence = rng.permutation(40) / 40
    selected = maximal_marginal_relevance(confidence, vectors, 12, diversity=0.4).tolist()
    for step, row in enumerate(selected):
        rank = confidence * 40 / 39
        values = [
            0.6 * rank[i] - 0.4 * max((float(vectors[i] @ vectors[j]) for j in selected[:step]), default=0)
            for i in range(40)
        ]
        rest = [i for i in range(40) if i not in selected[:step]]
        assert values[row] == pytest.approx(max(values[i] for i in rest), abs=1e-6)


@pytest.mark.parametrize("source", ["auto_label", "ground_truth"])
def test_the_subset_is_balanced_from_train_and_without_duplicates(archive, select, source):
    selected = select(per_class=9, captions_from=source)
    assert selected["label"].tolist() == ["normal"] * 9 + ["pneumonia"] * 9
    assert selected["label_index"].tolist() == [0] * 9 + [1] * 9
    assert set(selected["split"]) == {"train"}
    images = archive.splits["train"].images[rows(selected)]
    pixels = {image.tobytes() for image in images}
    held_out = {image.tobytes() for part in ("val", "test") for image in archive.splits[part].images}
    assert len(pixels) == 18
    assert not pixels & held_out


def test_the_configured_label_selects(select):
    truth = select(per_class=25, captions_from="ground_truth")
    assert (truth["label"] == truth["ground_truth_label"]).all()
    assert (truth["label"] != truth["auto_label"]).any()
    automatic = select(per_class=12)
    assert (automatic["label"] == automatic["auto_label"]).all()
    assert (automatic["label"] != automatic["ground_truth_label"]).any()


def test_automatic_labels_come_from_the_more_confident_half(table, excluded, select):
    selected = select(per_class=12)
    train = table[(table["split"] == "train") & ~table["image_id"].isin(excluded)]
    for name in NAMES:
        candidates = sorted(train[train["auto_label"] == name]["confidence_score"], reverse=True)
        half = candidates[: -(-len(candidates) // 2)]
        assert selected[selected["label"] == name]["confidence_score"].min() >= half[-1]


def test_the_seed_decides_the_subset(select):
    first, again, other = (select(per_class=8, seed=seed, captions_from="ground_truth") for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert rows(first) != rows(other)


@pytest.mark.parametrize(
    ("source", "per_class", "found"),
    [
        ("auto_label", 20, r"are labelled normal with confidence; .*labeled_dataset\.csv\.$"),
        ("ground_truth", 29, r"have the true label normal; lower it\.$"),
    ],
)
def test_too_few_images_are_an_error(select, source, per_class, found):
    with pytest.raises(PipelineError, match=rf"subset\.per_class is {per_class}.* {found}") as caught:
        select(per_class=per_class, captions_from=source)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_never_predicted_is_an_error(table, select):
    with pytest.raises(PipelineError, match=r"only 0 .*pneumonia"):
        select(table.assign(auto_label="normal"), per_class=5)


def test_the_folder_is_an_imagefolder_with_captions(archive, select, tiny, tmp_path):
    selected = select(per_class=6)
    written = write_subset(tmp_path, selected, archive, "train", tiny.subset, tiny.classes)
    assert read_rows(tmp_path / "metadata.jsonl") == written
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert len(written) == 12
    assert files == {row["file_name"] for row in written}
    images = archive.splits["train"].images[rows(selected)]
    np.testing.assert_array_equal(read_folder(tmp_path, written), images)
    for row, source in zip(written, selected.to_dict("records"), strict=True):
        assert set(row) == {"file_name", "text", "image_id", "label", "ground_truth", "confidence_score"}
        assert row["text"] == tiny.classes.caption(NAMES.index(row["label"]))
        assert row["ground_truth"] == NAMES[archive.splits["train"].labels[int(row["image_id"][-6:])]]
        assert row["confidence_score"] == pytest.approx(source["confidence_score"], abs=1e-6)


def test_an_id_outside_train_does_not_become_a_file_name(archive, select, tiny, tmp_path):
    selected = select(per_class=2)
    selected.loc[1, "image_id"] = "../../evil_000001"
    with pytest.raises(PipelineError, match=r"'\.\./\.\./evil_000001'"):
        write_subset(tmp_path / "a/b", selected, archive, "train", tiny.subset, tiny.classes)
    assert not list(tmp_path.glob("evil*"))


@pytest.mark.parametrize("label", ["auto_label", "ground_truth"])
def test_validation_images_are_from_val_without_copies_in_train(archive, table, tiny, label):
    faults = find_faults(archive, lambda split: [pixels(archive, split)], Faults())
    subset = tiny.subset.model_copy(update={"captions_from": label, "validation_per_class": 9})
    held_out = select_validation(table, faults, subset, tiny.classes)
    assert set(held_out["split"]) == {"val"}
    assert "thing_val_000007" not in set(held_out["image_id"])
    column = {"auto_label": "auto_label", "ground_truth": "ground_truth_label"}[label]
    assert (held_out["label"] == held_out[column]).all()
    counts = held_out["label"].value_counts()
    usable = table[(table["split"] == "val") & (table["image_id"] != "thing_val_000007")]
    available = usable[column].value_counts()
    for name in NAMES:
        assert counts[name] == min(9, available[name])
    again = select_validation(table, faults, subset, tiny.classes)
    assert again["image_id"].tolist() == held_out["image_id"].tolist()
