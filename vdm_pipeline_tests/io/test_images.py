"""PNG files: provenance in text chunks, limits on reading, and grids of images."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.io.images import MAX_SIDE, data_uri, image_grid, read_folder, read_png, resize, write_png

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
RGB = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
def test_pixels_and_text_round_trip(tmp_path, image):
    text = {"parameters": '{"prompt": "ä chest, „X“"}', "empty": "", "long": "x" * 5000}
    write_png(tmp_path / "deep/x.png", image, text)
    np.testing.assert_array_equal(read_png(tmp_path, "deep/x.png"), image)
    with Image.open(tmp_path / "deep/x.png") as file:
        assert file.format == "PNG"
        assert dict(file.text) == text
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.png"]


def test_same_image_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_png(tmp_path / name, GREY, {"k": "v"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1"])
def test_other_modes_are_read_grey(tmp_path, mode):
    Image.fromarray(GREY).convert(mode).save(tmp_path / "x.png")
    image = read_png(tmp_path, "x.png")
    assert (image.shape, image.dtype) == ((9, 7), np.uint8)
    if mode != "1":
        assert np.abs(image.astype(int) - GREY).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_colours_of_other_modes_stay(tmp_path, mode):
    pixels = np.repeat(np.repeat(np.uint8([[[200, 0, 0], [0, 90, 255]]]), 4, axis=0), 4, axis=1)
    image = Image.fromarray(pixels)
    (image.quantize(2) if mode == "P" else image.convert(mode)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_png(tmp_path, "x.png"), pixels)


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/hostname"])
def test_name_outside_the_folder_is_an_error(tmp_path, name):
    (tmp_path / "in/a").mkdir(parents=True)
    write_png(tmp_path / "x.png", GREY)
    with pytest.raises(PipelineError, match="outside that folder"):
        read_png(tmp_path / "in", name)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header has this size, with no data for it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    ]
    body = b""
    for name, data in chunks:
        body += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("width", "height"), [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (9000, 9000)])
def test_too_large_image_is_rejected_by_its_header(tmp_path, width, height):
    (tmp_path / "x.png").write_bytes(png_of_size(width, height))
    with pytest.raises(PipelineError, match=rf"x\.png is {width} x {height} pixels"):
        read_png(tmp_path, "x.png")


def test_decompression_bomb(tmp_path):
    (tmp_path / "x.png").write_bytes(png_of_size(60000, 60000))
    with pytest.raises(PipelineError, match=r"x\.png"):
        read_png(tmp_path, "x.png")


def test_largest_side_is_read(tmp_path):
    write_png(tmp_path / "x.png", np.zeros((1, MAX_SIDE), np.uint8))
    assert read_png(tmp_path, "x.png").shape == (1, MAX_SIDE)


def test_damaged_file(tmp_path):
    write_png(tmp_path / "x.png", GREY)
    whole = (tmp_path / "x.png").read_bytes()
    for content in [b"", b"not an image", *(whole[:length] for length in range(8, len(whole) - 20, 5))]:
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(PipelineError, match=r"x\.png cannot be read as an image"):
            read_png(tmp_path, "x.png")
    with pytest.raises(PipelineError, match=r"gone\.png cannot be read"):
        read_png(tmp_path, "gone.png")


def test_flipped_bytes_raise_only_pipeline_errors(tmp_path):
    write_png(tmp_path / "x.png", GREY, {"parameters": "text"})
    whole = (tmp_path / "x.png").read_bytes()
    for index in range(len(whole)):
        (tmp_path / "x.png").write_bytes(whole[:index] + bytes([whole[index] ^ 0x5A]) + whole[index + 1 :])
        try:
            read_png(tmp_path, "x.png")
        except PipelineError as error:
            assert "\n" not in str(error)


def test_images_come_in_the_order_of_the_rows(tmp_path):
    for name, value in (("a.png", 1), ("b.png", 2)):
        write_png(tmp_path / name, np.full((3, 4), value, np.uint8))
    images = read_folder(tmp_path, [{"file_name": name} for name in ("b.png", "a.png", "b.png")])
    assert images.shape == (3, 3, 4)
    assert images[:, 0, 0].tolist() == [2, 1, 2]


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "rgb"])
def test_grid_fills_with_white(channels):
    images = [np.full((4, 5, *channels), value, np.uint8) for value in (10, 20, 30)]
    grid = image_grid(images, columns=2, gap=1)
    assert grid.shape == (9, 11, *channels)
    expected = np.full(grid.shape, 255, np.uint8)
    expected[0:4, 0:5], expected[0:4, 6:11], expected[5:9, 0:5] = 10, 20, 30
    np.testing.assert_array_equal(grid, expected)


def test_resize_is_the_identity_at_the_same_size():
    images = RNG.integers(0, 256, (2, 8, 8), dtype=np.uint8)
    assert resize(images, 8) is images


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "rgb"])
def test_resize_keeps_flat_images_and_orientation(channels):
    images = np.full((2, 8, 8, *channels), 77, np.uint8)
    assert (resize(images, 13) == 77).all()
    images[0, :4] = 0
    small = resize(images, 4)
    assert small.shape == (2, 4, 4, *channels)
    assert small[0, 0].max() < 20
    assert small[0, 3].min() > 60
    assert (small[1] == 77).all()


def test_data_uri_contains_the_png():
    head, body = data_uri(RGB).split(",", 1)
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), RGB)
