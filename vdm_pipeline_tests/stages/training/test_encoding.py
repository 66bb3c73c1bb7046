"""Latents and texts are the models' own, cached by content, and never stale."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vdm_pipeline.errors import ModelError
from vdm_pipeline.io.images import resize
from vdm_pipeline.stages.models.diffusion import encode_image, encode_prompts, load_component
from vdm_pipeline.stages.training.encoding import Encoded, Encoder
from vdm_pipeline_tests.stages.training.jobs import BASE, CAPTIONS, IMAGES

CPU = torch.device("cpu")


def encode(
    cache: Path, images: np.ndarray = IMAGES, base: Path = BASE, size: int = 64, flip: bool = False
) -> tuple[Encoded, int]:
    """The encoded images, and the number of latents from the cache."""
    lines: list[str] = []
    encoder = Encoder(base, cache, size, device=CPU, dtype=torch.float32)
    encoded = encoder.encode(images, CAPTIONS[: len(images)], flip=flip, log=lines.append)
    hits = re.fullmatch(r"latent cache: (\d+)/(\d+) hits", lines[0])
    assert int(hits[2]) == len(encoded.mean)
    return encoded, int(hits[1])


def assert_same(one: Encoded, other: Encoded) -> None:
    for name in ("mean", "std", "text"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_moments_and_texts_are_those_of_the_models(tmp_path):
    encoded, _ = encode(tmp_path)
    vae = load_component(BASE, "vae")
    grey = torch.from_numpy(IMAGES).float()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1
    with torch.no_grad():
        posterior = vae.encode(grey).latent_dist
    torch.testing.assert_close(encoded.mean, posterior.mean * vae.config.scaling_factor, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(encoded.std, posterior.std * vae.config.scaling_factor, atol=1e-4, rtol=1e-3)
    texts = encode_prompts(BASE, CAPTIONS, CPU, torch.float32)
    torch.testing.assert_close(encoded.text[encoded.caption_index], texts, atol=1e-4, rtol=1e-4)
    assert (texts[0] - texts[1]).abs().max() > 0.1


def test_colour_images_are_encoded_and_cached(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
    first, _ = encode(tmp_path, colour, flip=True)
    vae = load_component(BASE, "vae")
    channels_first = torch.from_numpy(resize(colour, 64)).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        posterior = vae.encode(channels_first / 127.5 - 1).latent_dist
    torch.testing.assert_close(
        first.mean[:2], posterior.mean * vae.config.scaling_factor, atol=1e-4, rtol=1e-3
    )
    again, hits = encode(tmp_path, colour, flip=True)
    assert hits == 4
    assert_same(first, again)


def test_cache_returns_the_same_bits(tmp_path):
    first, first_hits = encode(tmp_path)
    second, second_hits = encode(tmp_path)
    assert (first_hits, second_hits) == (0, 8)
    assert_same(first, second)


@pytest.mark.parametrize("lost", [1, 3, 7])
def test_incomplete_cache_gives_the_same_bits(tmp_path, lost):
    whole, _ = encode(tmp_path)
    by_size = sorted(tmp_path.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    for path in (*by_size[:lost], by_size[-1]):  # latents, and one of the two texts
        path.unlink()
    second, hits = encode(tmp_path)
    assert hits == 8 - lost
    assert_same(whole, second)


def test_mirrored_images_are_encoded_not_mirrored_latents(tmp_path):
    both, _ = encode(tmp_path, flip=True)
    assert both.n == 8 and len(both.mean) == 16
    vae = load_component(BASE, "vae")
    mirrored = torch.stack([encode_image(vae, image[:, ::-1].copy(), 64)[0] for image in IMAGES])
    assert torch.equal(both.mean[8:], mirrored)
    assert (both.mean[8:] - both.mean[:8].flip(-1)).abs().max() > 1e-3


def test_only_an_image_with_a_changed_pixel_is_encoded_again(tmp_path):
    first, _ = encode(tmp_path)
    changed = IMAGES.copy()
    changed[5, 30, 30] ^= 1
    second, hits = encode(tmp_path, changed)
    assert hits == 7
    assert [index for index in range(8) if not torch.equal(first.mean[index], second.mean[index])] == [5]


def test_another_vae_or_resolution_has_no_cache_hits(tmp_path):
    encode(tmp_path / "cache")
    other = tmp_path / "sd"
    shutil.copytree(BASE, other)
    weights = next((other / "vae").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert encode(tmp_path / "cache", base=other)[1] == 0
    assert encode(tmp_path / "cache", size=32)[1] == 0
    assert encode(tmp_path / "cache")[1] == 8


def test_another_text_encoder_gives_another_text(tmp_path):
    first, _ = encode(tmp_path / "cache")
    other = tmp_path / "sd"
    shutil.copytree(BASE, other)
    weights = next((other / "text_encoder").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-2:] = b"\x00\x3c" if data[-2:] != b"\x00\x3c" else b"\x00\x00"
    weights.write_bytes(data)
    second, hits = encode(tmp_path / "cache", base=other)
    assert hits == 8
    assert not torch.equal(first.text, second.text)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:40], lambda data: data[:-1] + bytes([data[-1] ^ 0x40])],
    ids=["cut", "one bit"],
)
def test_damaged_file_is_encoded_again(tmp_path, damage):
    first, _ = encode(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(damage(path.read_bytes()))
    second, hits = encode(tmp_path)
    assert hits == 0
    assert_same(first, second)


def test_prompt_that_would_be_truncated_is_an_error():
    with pytest.raises(ModelError, match="77"):
        encode_prompts(BASE, ["lungs " * 80], CPU, torch.float32)


def test_folder_without_a_component_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="'unet'"):
        load_component(tmp_path, "unet")
