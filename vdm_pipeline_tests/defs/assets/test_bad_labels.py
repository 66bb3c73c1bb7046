"""Useless labels stop the run at once, whatever their cause; nothing is trained on them."""

import numpy as np
import pandas as pd
import pytest

from vdm_pipeline.io import images, tables
from vdm_pipeline.stages.data.archive import Archive
from vdm_pipeline.stages.data.near_duplicates import Whitening
from vdm_pipeline.stages.labelling import label_noise, labels
from vdm_pipeline.stages.labelling.embeddings import read_embeddings
from vdm_pipeline.stages.subset import select as subset
from vdm_pipeline_tests.defs.assets.graph import TO_THE_SUBSET, error_message, materialize
from vdm_pipeline_tests.profiles import shrink

UP_TO_TRAINING = [*TO_THE_SUBSET, "lora_weights"]


def change_table(monkeypatch, change):
    """Apply ``change`` to the table of labels before it is written."""
    good = labels.label_table
    monkeypatch.setattr(labels, "label_table", lambda *given: change(good(*given)))


def class_from_words(monkeypatch):
    """Take the class from the word "pneumonia" in the winning prompt. Both prompts contain the word."""
    prompts = {"normal": "no evidence of pneumonia", "pneumonia": "a chest X-ray with pneumonia"}
    found = {name: "pneumonia" if "pneumonia" in prompt else "normal" for name, prompt in prompts.items()}
    change_table(monkeypatch, lambda table: table.assign(auto_label=table["auto_label"].map(found)))


def same_scores(monkeypatch):
    monkeypatch.setattr(
        labels, "logits", lambda embeddings, text, scale: np.tile([0.2, 0.8], (len(embeddings), 1))
    )


def not_a_number(monkeypatch):
    good = labels.logits

    def one_broken(*given):
        found = good(*given)
        found[3, 1] = np.nan
        return found

    monkeypatch.setattr(labels, "logits", one_broken)


@pytest.mark.parametrize(
    ("fault", "fragments"),
    [
        (
            class_from_words,
            ("normal", "labelling.phrases"),
        ),
        (
            same_scores,
            ("normal", "labelling.phrases"),
        ),
        (
            not_a_number,
            ("not finite", "phantom_train_000003"),
        ),
    ],
)
def test_labelling_fails(tiny, embedded, monkeypatch, fault, fragments):
    fault(monkeypatch)
    result = materialize(tiny, embedded)
    assert not result.success
    assert all(fragment in error_message(result) for fragment in fragments)
    materialized = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert materialized <= {"raw_npz", "image_embeddings", "data_faults", "baseline_images"}
    assert not (embedded / "results/labeled_dataset.csv").exists()
    assert not (embedded / "results/lora").exists()


def random_scores(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(
        labels, "logits", lambda embeddings, text, scale: rng.standard_normal((len(embeddings), 2))
    )


def shuffled_ids(monkeypatch):
    change_table(
        monkeypatch,
        lambda table: table.assign(image_id=table["image_id"].sample(frac=1, random_state=0).to_numpy()),
    )


def nearly_all_one(monkeypatch):
    names = np.array(["normal", *["pneumonia"] * 127])
    change_table(monkeypatch, lambda table: table.assign(auto_label=names))


def no_probability(monkeypatch):
    change_table(
        monkeypatch,
        lambda table: table.assign(confidence_score=table["confidence_score"].where(table.index != 5)),
    )


def cut_short(monkeypatch):
    good = tables.write_csv

    def cut(path, table):
        good(path, table)
        if path.name == "labeled_dataset.csv":
            text = path.read_text()
            path.write_text(text[: len(text) * 3 // 4])

    monkeypatch.setattr(tables, "write_csv", cut)


def leaked_test_image(monkeypatch):
    good = Archive.images_by_id

    def leaky(archive, split, ids):
        images = good(archive, split, ids).copy()
        images[0] = archive.splits["test"].images[0]
        return images

    monkeypatch.setattr(Archive, "images_by_id", leaky)


@pytest.mark.parametrize(
    ("fault", "check", "figures", "first_blocked"),
    [
        (
            random_scores,
            "labels_beat_chance",
            {},
            "lora_subset",
        ),
        (shuffled_ids, "labels_are_sound", {}, "lora_subset"),
        (
            nearly_all_one,
            "labels_predict_every_class",
            {"n_normal": 1, "n_pneumonia": 127},
            "lora_subset",
        ),
        (no_probability, "labels_are_sound", {}, "lora_subset"),
        (cut_short, "labels_are_sound", {}, "lora_subset"),
        (
            leaked_test_image,
            "subset_is_disjoint",
            {"leaked": 1, "repeated": 0},
            "lora_weights",
        ),
    ],
)
def test_a_check_blocks_the_run(tiny, embedded, monkeypatch, fault, check, figures, first_blocked):
    fault(monkeypatch)
    result = materialize(shrink(tiny, checks={"min_purity": 0.0}), embedded, UP_TO_TRAINING)
    assert not result.success
    evaluations = [found for found in result.get_asset_check_evaluations() if not found.passed]
    failed = {found.check_name: found.metadata for found in evaluations}
    assert {key: failed[check][key].value for key in figures} == figures
    materialized = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert materialized.isdisjoint(UP_TO_TRAINING[UP_TO_TRAINING.index(first_blocked) :])


def test_the_same_run_without_a_fault_succeeds(tiny, embedded):
    result = materialize(tiny, embedded, UP_TO_TRAINING)
    assert result.success, error_message(result)
    assert len(pd.read_csv(embedded / "results/labeled_dataset.csv")) == 128


def test_the_next_run_does_not_read_a_blocked_asset(tiny, embedded, monkeypatch):
    """Selecting only downstream assets does not help. Metrics may read it, and the check may run again."""
    random_scores(monkeypatch)
    profile = shrink(tiny, checks={"min_purity": 0.0}, subset={"exclude": ()})
    assert not materialize(profile, embedded, UP_TO_TRAINING).success
    downstream = materialize(profile, embedded, ["data_faults", "label_noise", "lora_subset", "lora_weights"])
    assert not downstream.success
    assert error_message(downstream).startswith("Check labels_beat_chance of labeled_dataset failed")
    assert not (embedded / "data/subset").exists()
    assert materialize(profile, embedded, ["label_metrics"]).success
    monkeypatch.undo()
    monkeypatch.setenv("VDM_FORCE", "labeled_dataset")
    result = materialize(profile, embedded, UP_TO_TRAINING)
    assert result.success, error_message(result)


def test_swapped_phrases_are_an_error_and_not_swapped_back(tiny, embedded):
    swapped = shrink(tiny, labelling={"phrases": tiny.labelling.phrases[::-1]})
    result = materialize(swapped, embedded, UP_TO_TRAINING)
    assert "labelling.phrases" in error_message(result)
    assert "classes.names" in error_message(result)


def test_a_negated_prompt_gives_a_warning(tiny, embedded, printed):
    phrases = (("no evidence of pneumonia", *tiny.labelling.phrases[0]), tiny.labelling.phrases[1])
    assert materialize(shrink(tiny, labelling={"phrases": phrases}), embedded, UP_TO_TRAINING[:3]).success
    assert "'a chest X-ray of no evidence of pneumonia'" in printed.readouterr().err


def test_the_worst_suspects_are_shown(tiny, embedded, monkeypatch):
    """Their own images, worst first."""
    ids = [f"phantom_train_{i:06d}" for i in (70, 3, 41)]
    suspects = pd.DataFrame(
        {"image_id": ids, "label": "normal", "suggested": "pneumonia", "quality": [0.1, 0.2, 0.3]}
    )
    monkeypatch.setattr(label_noise, "find_suspects", lambda *given: suspects)
    shown: list[np.ndarray] = []
    grid = images.image_grid
    monkeypatch.setattr(
        images, "image_grid", lambda pictures, columns: shown.extend(pictures) or grid(pictures, columns)
    )
    assert materialize(tiny, embedded, UP_TO_TRAINING[:6]).success
    with np.load(embedded / f"data/{tiny.data.file_name}") as archive:
        np.testing.assert_array_equal(shown[-3:], archive["train_images"][[70, 3, 41]])


def test_the_subset_is_spread_over_the_embeddings_of_its_own_images(tiny, embedded, monkeypatch):
    """Row i of the vectors that `select_subset` is given belongs to train image i."""
    given: list[np.ndarray] = []
    select_subset = subset.select_subset
    monkeypatch.setattr(
        subset,
        "select_subset",
        lambda table, vectors, *others: given.append(vectors) or select_subset(table, vectors, *others),
    )
    assert materialize(tiny, embedded, UP_TO_TRAINING[:7]).success
    embeddings = np.concatenate(list(read_embeddings(embedded / "results/embeddings", "train")))
    np.testing.assert_allclose(given[0], Whitening.fit(embeddings)(embeddings), atol=1e-6)
