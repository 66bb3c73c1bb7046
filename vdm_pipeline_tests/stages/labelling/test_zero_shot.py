"""Zero-shot classification: class i is prompt group i, and the arithmetic equals open_clip's."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from vdm_pipeline.errors import ModelError
from vdm_pipeline.settings import EMBEDDED
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.labelling.calibration import softmax
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot, logits

CPU, FOLDER = torch.device("cpu"), EMBEDDED / "clip"
NORMAL, PNEUMONIA = "a normal chest X-ray", "a chest X-ray showing pneumonia"
IS_SICK = np.arange(60) % 2 == 1
FILMS = render(900_001, np.arange(60), IS_SICK, 64)


@pytest.fixture(scope="module")
def labeller() -> ZeroShot:
    return ZeroShot(FOLDER, CPU)


@pytest.fixture(scope="module")
def embeddings(labeller) -> np.ndarray:
    return labeller.embed(FILMS)


def scores(labeller: ZeroShot, embeddings: np.ndarray, *prompts: list[str]) -> np.ndarray:
    return softmax(logits(embeddings, labeller.encode_prompts(prompts), labeller.scale))


def test_phantoms_are_classified(labeller, embeddings):
    assert (scores(labeller, embeddings, [NORMAL], [PNEUMONIA]).argmax(1) == IS_SICK).mean() >= 0.9


def test_the_position_of_a_prompt_is_its_class(labeller, embeddings):
    original = scores(labeller, embeddings, [NORMAL], [PNEUMONIA])
    swapped = scores(labeller, embeddings, [PNEUMONIA], [NORMAL])
    np.testing.assert_allclose(original, swapped[:, ::-1], atol=1e-6)


def test_both_prompts_may_contain_the_class_name(labeller, embeddings):
    without = "a chest X-ray with no evidence of pneumonia"
    probabilities = scores(labeller, embeddings, [without], ["a chest X-ray with pneumonia"])
    assert np.allclose(probabilities.sum(1), 1)
    assert probabilities[:, 0].std() > 0


def test_probabilities_equal_open_clips(labeller, embeddings):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(film)) for film in FILMS[:5]])
        images = model.eval().encode_image(pixels, normalize=True)
        text = model.encode_text(tokenizer([NORMAL, PNEUMONIA]), normalize=True)
        expected = (model.logit_scale.exp() * images @ text.T).softmax(1).numpy()
    actual = scores(labeller, embeddings[:5], [NORMAL], [PNEUMONIA])
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (224, 224), (28, 28, 3)])
def test_preprocessing_equals_open_clips_transform(labeller, shape):
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    expected = torch.stack([preprocess(Image.fromarray(image)) for image in images])
    grey_level = 1 / 255 / float(labeller.std.min())
    np.testing.assert_allclose(labeller.preprocess(images), expected, atol=2.01 * grey_level)
    assert (labeller.preprocess(images) - expected).abs().mean() < 0.1 * grey_level


def test_images_must_be_square(labeller):
    with pytest.raises(ValueError, match="4 x 5"):
        labeller.preprocess(np.zeros((1, 4, 5), np.uint8))


def test_embeddings_do_not_depend_on_the_batch_size(labeller):
    np.testing.assert_allclose(labeller.embed(FILMS[:7], 2), labeller.embed(FILMS[:7], 7), atol=1e-5)


def test_an_ensemble_is_the_normalized_mean_of_its_prompts(labeller):
    pair = labeller.encode_prompts([[NORMAL, PNEUMONIA], [PNEUMONIA]])
    alone = labeller.encode_prompts([[NORMAL], [PNEUMONIA]])
    assert np.linalg.norm(pair, axis=1) == pytest.approx([1, 1], abs=1e-5)
    np.testing.assert_allclose(pair[0], alone.mean(0) / np.linalg.norm(alone.mean(0)), atol=1e-5)


def test_only_a_prompt_longer_than_the_context_is_an_error(labeller):
    longest = "x " * 75  # with start and end, 77 tokens
    labeller.encode_prompts([[NORMAL], [longest]])
    for long in (longest + "x", "x " * 500):
        with pytest.raises(ModelError, match="77 tokens"):
            labeller.encode_prompts([[NORMAL], [long]])


def test_a_folder_without_an_open_clip_model_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        ZeroShot(tmp_path, CPU)


def add_code(folder: Path, text_config: dict) -> Path:
    """A copy of the labeller with a tokenizer in Python, which writes the file ``ran`` when it is run."""
    shutil.copytree(FOLDER, folder)
    (folder / "code.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w')\nfrom transformers import CLIPTokenizer as Tokenizer\n"
    )
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": "Tokenizer"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tokenizer | {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}})
    )
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= text_config
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "text_config", [{}, {"tokenizer_kwargs": {"trust_remote_code": True}}], ids=["auto_map", "trusted"]
)
def test_code_in_a_labellers_folder_is_not_run(tmp_path, monkeypatch, text_config):
    """transformers would run it, at once or after a prompt in the terminal."""
    folder = add_code(tmp_path / "clip", text_config)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ModelError, match=r"_config.json .*'(auto_map|trust_remote_code)'"):
        ZeroShot(folder, CPU)
    assert not (folder / "ran").exists()
