"""Sample sheets: a row per caption, the same noise in each, whatever the batch size."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vdm_pipeline.stages.models.diffusion import load_component
from vdm_pipeline.stages.training.encoding import Encoder
from vdm_pipeline.stages.training.sample_sheet import sample_sheet
from vdm_pipeline_tests.stages.training.jobs import BASE, CAPTIONS, IMAGES, silent


@pytest.fixture(scope="module")
def sheets(tmp_path_factory) -> dict[str, np.ndarray]:
    """The two rows of three sheets: drawn at once, in parts of five, and with the captions swapped."""
    root: Path = tmp_path_factory.mktemp("sheets")
    encoder = Encoder(BASE, root / "cache", 64, torch.device("cpu"), torch.float32)
    data = encoder.encode(IMAGES, CAPTIONS, flip=False, log=silent)
    unet, vae, scheduler = (load_component(BASE, name) for name in ("unet", "vae", "scheduler"))
    swapped = dataclasses.replace(data, text=data.text.flip(0))
    rows = {}
    for name, encoded, micro in (("whole", data, 12), ("parts", data, 5), ("swapped", swapped, 12)):
        path = root / f"{name}.png"
        sample_sheet(unet, vae, scheduler, encoded, micro, path)
        sheet = np.asarray(Image.open(path)).astype(int)
        rows[name] = np.stack([sheet[:64], sheet[-64:]])
    return rows


def test_sheet_does_not_depend_on_the_batch_size(sheets):
    assert sheets["whole"].shape == (2, 64, 6 * 64 + 5 * 2, 3)
    assert np.abs(sheets["whole"] - sheets["parts"]).max() <= 1


def test_rows_differ_in_the_caption_and_share_the_noise(sheets):
    assert np.abs(sheets["whole"][0] - sheets["whole"][1]).mean() > 0.1
    assert np.abs(sheets["whole"] - sheets["swapped"][::-1]).max() <= 1
