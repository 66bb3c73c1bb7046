"""The handcrafted space and that of a vision transformer, on images with known differences."""

import json
import shutil

import numpy as np
import pytest
import torch
from skimage.feature import hog

from vdm_pipeline.errors import ModelError
from vdm_pipeline.stages.data.phantom.film import render
from vdm_pipeline.stages.evaluation.features import Space, VisionTransformer, feature_blocks, handcrafted

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
    gradients, patterns, light = feature_blocks(FILMS[:3])
    assert (gradients.shape, patterns.shape, light.shape) == ((3, 512), (3, 160), (3, 64))
    np.testing.assert_allclose(gradients[1], hog(FILMS[1], 8, (8, 8), (1, 1)))
    np.testing.assert_allclose(patterns.sum(1), 16)
    assert light[2, 9] == pytest.approx(FILMS[2, 8:16, 8:16].mean())


def test_the_same_image_is_alike_and_a_flipped_or_inverted_one_is_not():
    space = handcrafted(FILMS, 0)
    assert cosines(space, FILMS, FILMS) == pytest.approx(np.ones(40))
    assert cosines(space, FILMS, FILMS[:, ::-1]).max() < 0.9
    assert cosines(space, FILMS, 255 - FILMS).mean() < 0.2


def test_blocks_have_the_same_weight():
    images = np.random.default_rng(0).integers(256, size=(60, 64, 64), dtype=np.uint8)
    blocks = feature_blocks(images)
    scaled = [(block - block.mean(0)) / block.std(0) / block.shape[1] ** 0.5 for block in blocks]
    assert [block.var(0).sum() for block in scaled] == pytest.approx([1, 1, 1])
    concatenated = np.concatenate(scaled, 1)
    expected = concatenated / np.linalg.norm(concatenated, axis=1, keepdims=True)
    features = handcrafted(images, 0)(images)
    cosine = features @ features.T / features.shape[1]
    np.testing.assert_allclose(cosine, expected @ expected.T, atol=0.05)


def test_a_space_of_colour_images_sees_hues_that_one_of_grey_images_does_not():
    red = np.stack([FILMS // 2 + 60, FILMS // 2 + 30, FILMS // 2], axis=-1)
    blue = red[..., ::-1]
    in_colour, in_grey = handcrafted(np.concatenate([red, blue]), 0), handcrafted(FILMS, 0)
    np.testing.assert_allclose(in_grey(red), in_grey(blue))
    assert cosines(in_colour, red, red) == pytest.approx(np.ones(40))
    assert cosines(in_colour, red, blue).max() < 0.8
    assert "colour" in in_colour.title
    assert "colour" not in in_grey.title


def test_colour_is_the_difference_of_channels_in_cells():
    rgb = np.random.default_rng(0).integers(256, size=(2, 64, 64, 3), dtype=np.uint8)
    *grey_blocks, colour = feature_blocks(rgb, 3)
    assert [block.shape for block in grey_blocks] == [block.shape for block in feature_blocks(rgb)]
    cell = rgb[1, 8:16, 16:24].astype(float)  # row 1, column 2 of 8 x 8 cells
    assert colour[1, 10] == pytest.approx((cell[..., 0] - cell[..., 1]).mean())
    assert colour[1, 64 + 10] == pytest.approx((cell[..., 2] - cell[..., 1]).mean())


def test_colour_images_are_converted_to_grey():
    space = handcrafted(FILMS, 0)
    np.testing.assert_allclose(space(np.repeat(FILMS[:3, ..., None], 3, axis=3)), space(FILMS[:3]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random DINOv2 model in the format of transformers."""
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


def test_remote_code_of_a_model_is_rejected_and_not_run(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "vit")
    (tmp_path / "vit/code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import Dinov2Model, Dinov2Config\n"
    )
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "unheard_of"}
    config["auto_map"] = {"AutoConfig": "code.Dinov2Config", "AutoModel": "code.Dinov2Model"}
    (tmp_path / "vit/config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ModelError, match=r"config\.json .*auto_map"):
        VisionTransformer(tmp_path / "vit", torch.device("cpu"))
    assert not (tmp_path / "ran").exists()


def test_features_are_the_class_token_for_any_batch_size(folder):
    from transformers import AutoImageProcessor, AutoModel

    rgb = np.repeat(FILMS[:5, ..., None], 3, axis=3)
    inputs = AutoImageProcessor.from_pretrained(folder)(list(rgb), return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[:, 0].numpy()

    transformer, progress = VisionTransformer(folder, torch.device("cpu")), []
    features = transformer.embed(FILMS[:5], 2, lambda done, total: progress.append((done, total)))
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert progress == [(2, 5), (4, 5), (5, 5)]
    np.testing.assert_allclose(transformer.embed(rgb, 5, lambda *_: None), features, atol=1e-5)
