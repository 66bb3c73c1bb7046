"""Labels: the class is the prompt's position, and the arithmetic is open_clip's."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.io.tables import write_csv
from vdm_pipeline.stages.data.archive import Archive, Split
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.labelling.calibration import Calibration, softmax
from vdm_pipeline.stages.labelling.labels import label_table, read_labels, check_not_degenerate
from vdm_pipeline.stages.labelling.prompts import negations
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot, logits
from vdm_pipeline.stages.models.pins import EMBEDDED

CPU, FOLDER = torch.device("cpu"), EMBEDDED / "clip"
NORMAL, SICK = "a normal chest X-ray", "a chest X-ray showing pneumonia"
SICKNESS = np.arange(60) % 2 == 1
PLAIN = Calibration("none", "argmax", 1.0, (0.0, 0.0), (0.5, 0.5))
FILMS = render(900_001, np.arange(60), SICKNESS, 64)


@pytest.fixture(scope="module")
def labeller() -> ZeroShot:
    return ZeroShot(FOLDER, CPU)


@pytest.fixture(scope="module")
def embeddings(labeller) -> np.ndarray:
    return labeller.embed(FILMS)


def scores(labeller: ZeroShot, embeddings: np.ndarray, *prompts: list[str]) -> np.ndarray:
    return softmax(logits(embeddings, labeller.encode_prompts(prompts), labeller.scale))


def test_labels_of_phantoms_are_right(labeller, embeddings):
    assert (scores(labeller, embeddings, [NORMAL], [SICK]).argmax(1) == SICKNESS).mean() >= 0.9


def test_position_decides_not_words(labeller, embeddings):
    straight, swapped = (
        scores(labeller, embeddings, [NORMAL], [SICK]),
        scores(labeller, embeddings, [SICK], [NORMAL]),
    )
    np.testing.assert_allclose(straight, swapped[:, ::-1], atol=1e-6)


def test_the_word_pneumonia_in_both_prompts_does_no_harm(labeller, embeddings):
    found = scores(
        labeller,
        embeddings,
        ["a chest X-ray with no evidence of pneumonia"],
        ["a chest X-ray with pneumonia"],
    )
    assert np.allclose(found.sum(1), 1)
    assert found[:, 0].std() > 0


def test_probabilities_are_open_clips_own(labeller, embeddings):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    with torch.no_grad():
        images = model.eval().encode_image(
            torch.stack([preprocess(Image.fromarray(f)) for f in FILMS[:5]]), normalize=True
        )
        expected = (
            model.logit_scale.exp() * images @ model.encode_text(tokenizer([NORMAL, SICK]), normalize=True).T
        ).softmax(1)
    np.testing.assert_allclose(
        scores(labeller, embeddings[:5], [NORMAL], [SICK]), expected.numpy(), atol=1e-4
    )


@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (224, 224), (28, 28, 3)])
def test_pixels_are_those_of_open_clips_transform(labeller, shape):
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    expected = torch.stack([preprocess(Image.fromarray(image)) for image in images])
    grey_level = 1 / 255 / float(labeller.std.min())
    np.testing.assert_allclose(labeller.pixels(images), expected, atol=2.01 * grey_level)
    assert (labeller.pixels(images) - expected).abs().mean() < 0.1 * grey_level


def test_images_that_are_not_square_are_refused(labeller):
    with pytest.raises(ValueError, match="4 x 5"):
        labeller.pixels(np.zeros((1, 4, 5), np.uint8))


def test_batch_size_changes_nothing(labeller):
    np.testing.assert_allclose(labeller.embed(FILMS[:7], 2), labeller.embed(FILMS[:7], 7), atol=1e-5)


def test_ensemble_is_a_unit_vector_between_its_prompts(labeller):
    pair = labeller.encode_prompts([[NORMAL, SICK], [SICK]])
    alone = labeller.encode_prompts([[NORMAL], [SICK]])
    assert np.linalg.norm(pair, axis=1) == pytest.approx([1, 1], abs=1e-5)
    np.testing.assert_allclose(pair[0], alone.mean(0) / np.linalg.norm(alone.mean(0)), atol=1e-5)


def test_prompt_is_refused_only_when_it_is_longer_than_the_model_reads(labeller):
    fitting = "x " * 75  # with start and end, 77 tokens
    labeller.encode_prompts([[NORMAL], [fitting]])
    for long in (fitting + "x", "x " * 500):
        with pytest.raises(ModelError, match="does not fit the labeller's 77 tokens"):
            labeller.encode_prompts([[NORMAL], [long]])


def test_folder_that_is_no_open_clip_model(tmp_path):
    with pytest.raises(ModelError, match="is no open_clip model"):
        ZeroShot(tmp_path, CPU)


def with_code(folder: Path, told: dict) -> Path:
    """The labeller with a tokenizer in Python, which notes that it was run."""
    shutil.copytree(FOLDER, folder)
    (folder / "code.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w')\nfrom transformers import CLIPTokenizer as Tokenizer\n"
    )
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": "Tokenizer"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tokenizer | {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}})
    )
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= told
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "told", [{}, {"tokenizer_kwargs": {"trust_remote_code": True}}], ids=["it would ask", "it asks for trust"]
)
def test_code_that_comes_with_a_labeller_is_not_run(tmp_path, monkeypatch, told):
    """Without the refusal it would be: at once, or once somebody at the terminal agrees."""
    folder = with_code(tmp_path / "clip", told)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(
        ModelError,
        match=r"_config.json asks for code to be run \('(auto_map|trust_remote_code)'\), which is never done",
    ):
        ZeroShot(folder, CPU)
    assert not (folder / "ran").exists()


def test_negations_are_found_as_words():
    prompts = [
        ["no evidence of pneumonia", "a normal chest"],
        ["nodules", "lungs without air", "Not healthy", "notable opacity"],
    ]
    assert [word.lower() for _, word in negations(prompts)] == ["no", "without", "not"]


def test_labeller_that_says_the_same_of_all_stops(tmp_path):
    split = Split.of(np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1]))
    archive = Archive("toy", 8, {"train": split}, tmp_path, "", "", "unverified")
    constant = label_table(archive, {"train": np.tile([0.2, 0.8], (4, 1))}, PLAIN, ["normal", "pneumonia"])
    assert constant["auto_label"].tolist() == ["pneumonia"] * 4
    with pytest.raises(PipelineError, match="never says normal of 4 images"):
        check_not_degenerate(constant, ["normal", "pneumonia"], as_captions=False)


def test_class_that_is_never_said_stops_where_labels_are_captions():
    table = pd.DataFrame({"auto_label": ["a", "b", "b"]})
    check_not_degenerate(table, ["a", "b", "c"], as_captions=False)
    with pytest.raises(PipelineError, match="never says c of 3 images"):
        check_not_degenerate(table, ["a", "b", "c"], as_captions=True)


@pytest.mark.parametrize("names", [["0", "1"], ["null", "nan"], ["false", "true"], ["1e5", "na"]])
def test_names_of_classes_stay_texts(tmp_path, names):
    columns = {
        "image_id": ["x_0", "x_1"],
        "auto_label": names,
        "ground_truth": [0, 1],
        "ground_truth_label": names,
        "split": "test",
    }
    table = pd.DataFrame(columns | {"confidence_score": [0.5, np.nan], f"p_{names[0]}": [0.5, 1.0]})
    write_csv(tmp_path / "labels.csv", table)
    found = read_labels(tmp_path / "labels.csv")
    assert found["auto_label"].tolist() == found["ground_truth_label"].tolist() == names
    assert found["confidence_score"].isna().tolist() == [False, True]
    assert found["ground_truth"].tolist() == [0, 1]


def test_table_follows_the_contract(tmp_path):
    split = Split.of(np.zeros((2, 8, 8), np.uint8), np.array([0, 1]))
    archive = Archive("toy", 8, {"test": split}, tmp_path, "", "", "unverified")
    table = label_table(archive, {"test": np.log([[0.9, 0.1], [0.7, 0.3]])}, PLAIN, ["normal", "pneumonia"])
    columns = ["image_id", "auto_label", "ground_truth", "ground_truth_label", "confidence_score", "split"]
    assert list(table.columns) == [
        *columns,
        "p_normal",
        "p_pneumonia",
        "zero_shot_p_normal",
        "zero_shot_p_pneumonia",
    ]
    row = table.iloc[1].tolist()
    assert row[:4] + row[5:6] == ["toy_test_000001", "normal", 1, "pneumonia", "test"]
    assert row[4:5] + row[6:] == pytest.approx([0.7, 0.7, 0.3, 0.7, 0.3])


def test_confidence_is_the_calibrated_probability_of_the_label(tmp_path):
    split = Split.of(np.zeros((1, 8, 8), np.uint8), np.array([1]))
    archive = Archive("toy", 8, {"test": split}, tmp_path, "", "", "unverified")
    low_cut = Calibration("platt", "sensitivity", 2.0, (0.0, 0.0), (0.8, 0.2))
    table = label_table(archive, {"test": np.log([[0.6, 0.4]])}, low_cut, ["normal", "pneumonia"])
    sick = 0.4**2 / (0.4**2 + 0.6**2)
    assert table["auto_label"].tolist() == ["pneumonia"]
    assert table["confidence_score"].tolist() == table["p_pneumonia"].tolist() == pytest.approx([sick])
    assert table["zero_shot_p_pneumonia"].tolist() == pytest.approx([0.4])
