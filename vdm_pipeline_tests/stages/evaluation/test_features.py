"""The handcrafted space and a network's, on images of known difference."""

import json
import shutil

import numpy as np
import pytest
import torch
from skimage.feature import hog

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.features import Network, Space, _blocks, handcrafted

FILMS = render(0, np.arange(40), np.arange(40) % 2 == 0, 64)


def cosines(space: Space, images: np.ndarray, others: np.ndarray) -> np.ndarray:
    x, y = space(images), space(others)
    return (x * y).mean(1)


def test_rows_have_a_mean_square_of_one():
    features = handcrafted(FILMS, 0)(FILMS[:7])
    np.testing.assert_allclose((features**2).mean(1), 1)
    assert features.shape[0] == 7
    assert (Space("zero", lambda images: np.zeros((len(images), 3)))(FILMS[:2]) == 0).all()


def test_blocks_are_gradients_patterns_and_light():
    gradients, patterns, light = _blocks(FILMS[:3])
    assert (gradients.shape, patterns.shape, light.shape) == ((3, 512), (3, 160), (3, 64))
    np.testing.assert_allclose(gradients[1], hog(FILMS[1], 8, (8, 8), (1, 1)))
    np.testing.assert_allclose(patterns.sum(1), 16)
    assert light[2, 9] == pytest.approx(FILMS[2, 8:16, 8:16].mean())


def test_same_image_is_alike_and_a_turned_one_is_not():
    space = handcrafted(FILMS, 0)
    assert cosines(space, FILMS, FILMS) == pytest.approx(np.ones(40))
    assert cosines(space, FILMS, FILMS[:, ::-1]).max() < 0.9
    assert cosines(space, FILMS, 255 - FILMS).mean() < 0.2


def test_each_block_weighs_the_same():
    images = np.random.default_rng(0).integers(256, size=(60, 64, 64), dtype=np.uint8)
    parts = [np.asarray(block) for block in _blocks(images)]
    scaled = [(part - part.mean(0)) / part.std(0) / part.shape[1] ** 0.5 for part in parts]
    assert [part.var(0).sum() for part in scaled] == pytest.approx([1, 1, 1])
    together = np.concatenate(scaled, 1)
    space = handcrafted(images, 0)
    expected = together / np.linalg.norm(together, axis=1, keepdims=True)
    np.testing.assert_allclose(
        space(images) @ space(images).T / space(images).shape[1], expected @ expected.T, atol=0.05
    )


def test_colour_images_are_looked_at_in_grey():
    space = handcrafted(FILMS, 0)
    np.testing.assert_allclose(space(np.repeat(FILMS[:3, ..., None], 3, axis=3)), space(FILMS[:3]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A vision transformer of DINOv2's kind, tiny and at random, in transformers' format."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    path = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    Dinov2Model(Dinov2Config(**shape)).save_pretrained(path)
    size = {"shortest_edge": 28}
    BitImageProcessor(size=size, crop_size={"height": 28, "width": 28}).save_pretrained(path)
    return path


def test_code_that_comes_with_a_network_is_not_run(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "vit")
    (tmp_path / "vit/code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import Dinov2Model, Dinov2Config\n"
    )
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "unheard_of"}
    config["auto_map"] = {"AutoConfig": "code.Dinov2Config", "AutoModel": "code.Dinov2Model"}
    (tmp_path / "vit/config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ModelError, match="asks for code to be run"):
        Network(tmp_path / "vit", torch.device("cpu"))
    assert not (tmp_path / "ran").exists()


def test_network_gives_its_class_token_whatever_the_batch(folder):
    from transformers import AutoImageProcessor, AutoModel

    network = Network(folder, torch.device("cpu"))
    seen = []
    features = network.embed(FILMS[:5], 2, lambda done, total: seen.append((done, total)))
    inputs = AutoImageProcessor.from_pretrained(folder)(
        list(np.repeat(FILMS[:5, ..., None], 3, axis=3)), return_tensors="pt"
    )
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    np.testing.assert_allclose(
        network.embed(np.repeat(FILMS[:5, ..., None], 3, axis=3), 5, lambda *a: None), features, atol=1e-5
    )
