"""Pictures for the UI's overview fit its limit, and still show what they are made of."""

import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vdm_pipeline.defs.previews import (
    INLINE_IMAGES,
    INLINE_LIMIT,
    RESOLUTIONS,
    inline_images,
    inline_plots,
)
from vdm_pipeline.stages.data.phantom.film import render


def decode(markdown: str) -> np.ndarray:
    """The picture in Markdown, as a browser decodes it."""
    content = base64.b64decode(markdown.split("base64,")[1].rstrip(")"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("size", [28, 64, 224])
def test_images_of_a_class_fit_and_are_those_images(size):
    images = render(0, np.arange(6), np.arange(6) % 2 == 1, size)
    inline = inline_images({"normal": images})
    assert list(inline) == ["images_normal"]
    assert len(inline["images_normal"]) < INLINE_LIMIT
    picture = decode(inline["images_normal"])[..., 0]
    side = picture.shape[0]
    for index, image in enumerate(images[:INLINE_IMAGES]):
        shown = picture[:, index * (side + 2) :][:, :side]  # image_grid leaves two pixels between images
        expected = np.asarray(Image.fromarray(image).resize((side, side)))
        assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.9


def test_coloured_noise_which_compresses_worst_still_fits():
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    text = inline_images({"noise": noise})["images_noise"]
    assert len(text) < INLINE_LIMIT
    assert decode(text).shape[1] > 4 * 20


def test_each_group_has_its_own_picture_and_an_empty_one_none():
    black, white = np.zeros((2, 32, 32), np.uint8), np.full((2, 32, 32), 255, np.uint8)
    inline = inline_images({"black": black, "none": [], "white": white})
    assert list(inline) == ["images_black", "images_white"]
    left = [decode(text)[:, :20].mean() for text in inline.values()]
    assert left[0] < 10 and left[1] > 245


def test_groups_have_one_size_although_one_compresses_worse():
    flat = np.zeros((4, 64, 64), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64), np.uint8)
    shapes = [decode(text).shape for text in inline_images({"flat": flat, "noise": noise}).values()]
    assert shapes[0] == shapes[1]


def test_a_plot_fits_and_keeps_its_line():
    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(50), np.linspace(0, 1, 50), label="a long name of the line")
    axes.set(title="A title", xlabel="step", ylabel="loss")
    axes.legend()
    text = inline_plots({"loss": figure})["plot_loss"]
    assert len(text) < INLINE_LIMIT
    picture = decode(text)
    height, width, _ = picture.shape
    inside = picture[height // 10 : height * 8 // 10, width // 4 : width * 9 // 10]
    rows, columns = (inside.min(axis=2) < 200).nonzero()
    assert len(set(columns)) > 0.9 * inside.shape[1]
    assert np.corrcoef(rows, columns)[0, 1] < -0.9, "the line rises to the right"


def test_a_plot_that_never_fits_is_left_out_and_drawn_once_per_resolution(monkeypatch):
    figure, drawn = Figure(figsize=(6, 6)), []
    figure.subplots().imshow(np.random.default_rng(0).random((200, 200)))
    save = figure.savefig
    monkeypatch.setattr(figure, "savefig", lambda *args, **options: (drawn.append(1), save(*args, **options)))
    assert inline_plots({"noise": figure}) == {}
    assert len(drawn) == len(RESOLUTIONS)
