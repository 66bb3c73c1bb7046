"""Labels: the class is the prompt's position, and the arithmetic is open_clip's."""

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.io.tables import write_csv
from vdm_pipeline.stages.archive import Archive, Split
from vdm_pipeline.stages.labels import label_table, read_labels, refuse_degenerate
from vdm_pipeline.stages.models import EMBEDDED
from vdm_pipeline.stages.phantom.film import render
from vdm_pipeline.stages.zero_shot import ZeroShot

CPU, FOLDER = torch.device("cpu"), EMBEDDED / "clip"
NORMAL, SICK = "a normal chest X-ray", "a chest X-ray showing pneumonia"
SICKNESS = np.arange(60) % 2 == 1
FILMS = render(900_001, np.arange(60), SICKNESS, 64)


def test_labels_of_phantoms_are_right():
    labeller = ZeroShot(FOLDER, [[NORMAL], [SICK]], CPU)
    predicted = labeller.probabilities(labeller.embed(FILMS)).argmax(1)
    assert (predicted == SICKNESS).mean() >= 0.9


def test_position_decides_not_words():
    embeddings = ZeroShot(FOLDER, [[NORMAL], [SICK]], CPU).embed(FILMS)
    straight = ZeroShot(FOLDER, [[NORMAL], [SICK]], CPU).probabilities(embeddings)
    swapped = ZeroShot(FOLDER, [[SICK], [NORMAL]], CPU).probabilities(embeddings)
    np.testing.assert_allclose(straight, swapped[:, ::-1], atol=1e-6)


def test_the_word_pneumonia_in_both_prompts_does_no_harm():
    labeller = ZeroShot(FOLDER, [["a chest X-ray with no evidence of pneumonia"], ["a chest X-ray with pneumonia"]], CPU)
    assert np.allclose(labeller.probabilities(labeller.embed(FILMS)).sum(1), 1)


def test_probabilities_are_open_clips_own():
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    with torch.no_grad():
        images = model.eval().encode_image(torch.stack([preprocess(Image.fromarray(f)) for f in FILMS[:5]]), normalize=True)
        expected = (model.logit_scale.exp() * images @ model.encode_text(tokenizer([NORMAL, SICK]), normalize=True).T).softmax(1)
    labeller = ZeroShot(FOLDER, [[NORMAL], [SICK]], CPU)
    np.testing.assert_allclose(labeller.probabilities(labeller.embed(FILMS[:5])), expected.numpy(), atol=1e-4)


def test_batch_size_changes_nothing():
    labeller = ZeroShot(FOLDER, [[NORMAL], [SICK]], CPU)
    np.testing.assert_allclose(labeller.embed(FILMS[:7], 2), labeller.embed(FILMS[:7], 7), atol=1e-5)


def test_ensemble_is_a_unit_vector_between_its_prompts():
    pair = ZeroShot(FOLDER, [[NORMAL, SICK], [SICK]], CPU).text
    assert pair.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert float(pair[0] @ pair[1]) < 1


def test_prompt_is_refused_only_when_it_is_longer_than_the_model_reads():
    fitting = "x " * 75  # with start and end, 77 tokens
    ZeroShot(FOLDER, [[NORMAL], [fitting]], CPU)
    for long in (fitting + "x", "x " * 500):
        with pytest.raises(ModelError, match="does not fit the labeller's 77 tokens"):
            ZeroShot(FOLDER, [[NORMAL], [long]], CPU)


def test_folder_that_is_no_open_clip_model(tmp_path):
    with pytest.raises(ModelError, match="is no open_clip model"):
        ZeroShot(tmp_path, [[NORMAL], [SICK]], CPU)


def test_labeller_that_says_the_same_of_all_stops(tmp_path):
    split = Split(np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1]))
    archive = Archive("toy", 8, {"train": split}, tmp_path, "", "", "unverified")
    constant = label_table(archive, {"train": np.tile([0.2, 0.8], (4, 1))}, ["normal", "pneumonia"])
    assert constant["auto_label"].tolist() == ["pneumonia"] * 4
    with pytest.raises(PipelineError, match="never says normal of 4 images"):
        refuse_degenerate(constant, ["normal", "pneumonia"], as_captions=False)


def test_class_that_is_never_said_stops_where_labels_are_captions():
    table = pd.DataFrame({"auto_label": ["a", "b", "b"]})
    refuse_degenerate(table, ["a", "b", "c"], as_captions=False)
    with pytest.raises(PipelineError, match="never says c of 3 images"):
        refuse_degenerate(table, ["a", "b", "c"], as_captions=True)


@pytest.mark.parametrize("names", [["0", "1"], ["null", "nan"], ["false", "true"], ["1e5", "na"]])
def test_names_of_classes_stay_texts(tmp_path, names):
    columns = {"image_id": ["x_0", "x_1"], "auto_label": names, "ground_truth": [0, 1], "ground_truth_label": names, "split": "test"}
    table = pd.DataFrame(columns | {"confidence_score": [0.5, np.nan], f"p_{names[0]}": [0.5, 1.0]})
    write_csv(tmp_path / "labels.csv", table)
    found = read_labels(tmp_path / "labels.csv")
    assert found["auto_label"].tolist() == found["ground_truth_label"].tolist() == names
    assert found["confidence_score"].isna().tolist() == [False, True]
    assert found["ground_truth"].tolist() == [0, 1]


def test_table_follows_the_contract(tmp_path):
    split = Split(np.zeros((2, 8, 8), np.uint8), np.array([0, 1]))
    archive = Archive("toy", 8, {"test": split}, tmp_path, "", "", "unverified")
    table = label_table(archive, {"test": np.array([[0.9, 0.1], [0.7, 0.3]])}, ["normal", "pneumonia"])
    columns = ["image_id", "auto_label", "ground_truth", "ground_truth_label", "confidence_score", "split", "p_normal", "p_pneumonia"]
    assert list(table.columns) == columns
    assert table.iloc[1].tolist() == ["toy_test_000001", "normal", 1, "pneumonia", 0.7, "test", 0.7, 0.3]
