"""The subset: balanced, from train alone, no image twice, and captions that are those of generation."""

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
    choose,
    excluded_ids,
    relevant_and_diverse,
    select_validation,
    write_subset,
)

N = 60
NAMES = ("normal", "pneumonia")


def split(n: int, rng: np.random.Generator) -> Split:
    return Split.of(rng.integers(0, 256, (n, 4, 4), dtype=np.uint8), np.arange(n) % 2)


@pytest.fixture
def archive() -> Archive:
    """Train rows 10 to 13 repeat 0 to 3; 20 stands in val, 21 in test."""
    rng = np.random.default_rng(0)
    splits = {"train": split(N, rng), "val": split(20, rng), "test": split(20, rng)}
    images = splits["train"].images
    images[10:14] = images[0:4]
    images[20], images[21] = splits["val"].images[7], splits["test"].images[9]
    return Archive("thing", 4, splits, Path("thing.npz"), "0" * 64, "0" * 32, "unverified")


@pytest.fixture
def table(archive) -> pd.DataFrame:
    """A labeller that is wrong on every fifth image."""
    rng = np.random.default_rng(1)
    probabilities = {}
    for name, part in archive.splits.items():
        said = np.where(np.arange(len(part)) % 5 == 0, 1 - part.labels, part.labels)
        top = rng.uniform(0.55, 0.99, len(part))
        probabilities[name] = np.where(np.eye(2)[said] == 1, top[:, None], 1 - top[:, None])
    plain = Calibration("none", "argmax", 1.0, (0.0, 0.0), (0.5, 0.5))
    return label_table(
        archive, {name: np.log(values) for name, values in probabilities.items()}, plain, NAMES
    )


def rows(chosen: pd.DataFrame) -> list[int]:
    return [int(name.rsplit("_", 1)[1]) for name in chosen["image_id"]]


def test_table_of_labels_is_argmax_in_the_archives_order(archive, table):
    assert table["image_id"].tolist() == [name for part in archive.splits for name in archive.image_ids(part)]
    train = table[table["split"] == "train"]
    wrong = train["auto_label"] != train["ground_truth_label"]
    assert np.flatnonzero(wrong).tolist() == list(range(0, N, 5))
    assert (train["ground_truth_label"] == [NAMES[i % 2] for i in range(N)]).all()
    assert np.allclose(table["confidence_score"], table[["p_normal", "p_pneumonia"]].max(axis=1))


def pixels(archive: Archive, split: str) -> np.ndarray:
    return archive.splits[split].images.reshape(len(archive.splits[split]), -1).astype(np.float32)


@pytest.fixture
def left_out(archive) -> set[str]:
    faults = find_faults(archive, lambda split: [pixels(archive, split)], Faults())
    return excluded_ids(faults, pd.DataFrame({"image_id": []}), Subset(per_class=1))


@pytest.fixture
def chosen_from(archive, table, left_out, tiny) -> Callable[..., pd.DataFrame]:
    vectors = pixels(archive, "train") - pixels(archive, "train").mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return lambda labels=table, **asked: choose(labels, vectors, left_out, Subset(**asked), tiny.classes)


def test_copies_and_held_out_images_are_left_out(left_out):
    assert sorted(left_out) == [f"thing_train_{row:06d}" for row in (10, 11, 12, 13, 20, 21)]


def test_what_the_profile_lists_is_left_out_and_held_out_images_always():
    columns = ["image_id", "split", "fault", "twin", "twin_split"]
    rows = [
        ("a", "train", "duplicate", "b", "train"),
        ("c", "train", "duplicate", "d", "val"),
        ("e", "train", "blank", None, None),
    ]
    faults, suspects = pd.DataFrame(rows, columns=columns), pd.DataFrame({"image_id": ["s"]})
    for kinds, expected in (
        ((), {"c"}),
        (("blank",), {"c", "e"}),
        (("duplicate", "suspect"), {"a", "c", "s"}),
    ):
        assert excluded_ids(faults, suspects, Subset(per_class=1, exclude=kinds)) == expected


def test_relevance_and_diversity():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    confidence = (vectors[:, 0] + 1) / 2  # the surest are all alike
    surest = relevant_and_diverse(confidence, vectors, 30, diversity=0)
    assert sorted(surest) == sorted(np.argsort(-confidence)[:30])
    mixed = relevant_and_diverse(confidence, vectors, 30, diversity=0.5)
    assert len(set(mixed)) == 30
    likeness = [np.triu(vectors[rows] @ vectors[rows].T, 1).sum() for rows in (surest, mixed)]
    assert likeness[1] < 0.75 * likeness[0]
    assert confidence[mixed].mean() > confidence.mean()


def test_each_step_takes_the_best_of_brute_force():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    confidence = rng.permutation(40) / 40
    found = relevant_and_diverse(confidence, vectors, 12, diversity=0.4).tolist()
    for step, row in enumerate(found):
        rank = confidence * 40 / 39
        values = [
            0.6 * rank[i] - 0.4 * max((float(vectors[i] @ vectors[j]) for j in found[:step]), default=0)
            for i in range(40)
        ]
        rest = [i for i in range(40) if i not in found[:step]]
        assert values[row] == pytest.approx(max(values[i] for i in rest), abs=1e-6)


@pytest.mark.parametrize("source", ["auto_label", "ground_truth"])
def test_balanced_from_train_and_without_copies(archive, chosen_from, source):
    chosen = chosen_from(per_class=9, captions_from=source)
    assert chosen["label"].tolist() == ["normal"] * 9 + ["pneumonia"] * 9
    assert chosen["label_index"].tolist() == [0] * 9 + [1] * 9
    assert set(chosen["split"]) == {"train"}
    images = archive.splits["train"].images[rows(chosen)]
    content = {image.tobytes() for image in images}
    assert len(content) == 18
    assert not content & {
        image.tobytes() for part in ("val", "test") for image in archive.splits[part].images
    }


def test_the_label_that_was_asked_for_chooses(chosen_from):
    truth = chosen_from(per_class=25, captions_from="ground_truth")
    assert (truth["label"] == truth["ground_truth_label"]).all()
    assert (truth["label"] != truth["auto_label"]).any()
    automatic = chosen_from(per_class=12)
    assert (automatic["label"] == automatic["auto_label"]).all()
    assert (automatic["label"] != automatic["ground_truth_label"]).any()


def test_automatic_labels_come_from_the_more_confident_half(table, left_out, chosen_from):
    chosen = chosen_from(per_class=12)
    train = table[(table["split"] == "train") & ~table["image_id"].isin(left_out)]
    for name in NAMES:
        candidates = sorted(train[train["auto_label"] == name]["confidence_score"], reverse=True)
        half = candidates[: -(-len(candidates) // 2)]
        assert chosen[chosen["label"] == name]["confidence_score"].min() >= half[-1]


def test_same_seed_same_subset_and_another_seed_another(chosen_from):
    first, again, other = (
        chosen_from(per_class=8, seed=seed, captions_from="ground_truth") for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert rows(first) != rows(other)


@pytest.mark.parametrize(("source", "per_class"), [("auto_label", 20), ("ground_truth", 29)])
def test_too_few_images_is_a_sentence(chosen_from, source, per_class):
    with pytest.raises(
        PipelineError, match=rf"subset.per_class is {per_class}, but only \d+ usable train images .* normal"
    ) as caught:
        chosen_from(per_class=per_class, captions_from=source)
    assert "\n" not in str(caught.value)


def test_class_that_was_never_predicted_is_a_sentence(table, chosen_from):
    with pytest.raises(PipelineError, match="only 0 usable train images are labelled pneumonia"):
        chosen_from(table.assign(auto_label="normal"), per_class=5)


def test_written_folder_is_an_imagefolder_with_the_captions(archive, chosen_from, tiny, tmp_path):
    chosen = chosen_from(per_class=6)
    written = write_subset(tmp_path, chosen, archive, "train", tiny.classes)
    assert read_rows(tmp_path / "metadata.jsonl") == written
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")) == sorted(
        row["file_name"] for row in written
    )
    np.testing.assert_array_equal(
        read_folder(tmp_path, written), archive.splits["train"].images[rows(chosen)]
    )
    for row, source in zip(written, chosen.to_dict("records"), strict=True):
        assert set(row) == {"file_name", "text", "image_id", "label", "ground_truth", "confidence_score"}
        assert row["text"] == tiny.classes.caption(NAMES.index(row["label"]))
        assert row["ground_truth"] == NAMES[archive.splits["train"].labels[int(row["image_id"][-6:])]]
        assert row["confidence_score"] == pytest.approx(source["confidence_score"], abs=1e-6)


def test_id_that_is_no_train_image_does_not_become_a_file_name(archive, chosen_from, tiny, tmp_path):
    chosen = chosen_from(per_class=2)
    chosen.loc[1, "image_id"] = "../../evil_000001"
    with pytest.raises(PipelineError, match=r"'\.\./\.\./evil_000001' is no train image of thing.npz"):
        write_subset(tmp_path / "a/b", chosen, archive, "train", tiny.classes)
    assert not list(tmp_path.glob("evil*"))


@pytest.mark.parametrize("label", ["auto_label", "ground_truth"])
def test_held_out_images_are_of_val_and_have_no_copy_in_train(archive, table, tiny, label):
    faults = find_faults(archive, lambda split: [pixels(archive, split)], Faults())
    subset = tiny.subset.model_copy(update={"captions_from": label, "validation_per_class": 9})
    held_out = select_validation(table, faults, subset, tiny.classes)
    assert set(held_out["split"]) == {"val"}
    assert "thing_val_000007" not in set(held_out["image_id"])
    wanted = {"auto_label": "auto_label", "ground_truth": "ground_truth_label"}[label]
    assert (held_out["label"] == held_out[wanted]).all()
    counts = held_out["label"].value_counts()
    there = table[(table["split"] == "val") & (table["image_id"] != "thing_val_000007")][
        wanted
    ].value_counts()
    assert {name: int(counts[name]) for name in NAMES} == {name: min(9, int(there[name])) for name in NAMES}
    assert (
        select_validation(table, faults, subset, tiny.classes)["image_id"].tolist()
        == held_out["image_id"].tolist()
    )
