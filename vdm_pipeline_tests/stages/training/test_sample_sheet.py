"""Sample sheets: a row a caption, the same noise in each, however many are drawn at a time."""

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
    """The two rows of sheets that were drawn all at once, in parts of five, and with the captions exchanged."""
    root: Path = tmp_path_factory.mktemp("sheets")
    data = Encoder(BASE, root / "cache", 64, torch.device("cpu"), torch.float32).encode(
        IMAGES, CAPTIONS, flip=False, log=silent
    )
    parts = [load_component(BASE, name) for name in ("unet", "vae", "scheduler")]
    exchanged = dataclasses.replace(data, text=data.text.flip(0))
    rows = {}
    for name, (given, micro) in {
        "whole": (data, 12),
        "parts": (data, 5),
        "exchanged": (exchanged, 12),
    }.items():
        sample_sheet(*parts, given, micro, root / f"{name}.png")
        sheet = np.asarray(Image.open(root / f"{name}.png")).astype(int)
        rows[name] = np.stack([sheet[:64], sheet[-64:]])
    return rows


def test_a_sheet_does_not_depend_on_how_many_are_drawn_at_a_time(sheets):
    assert sheets["whole"].shape == (2, 64, 6 * 64 + 5 * 2, 3)
    assert np.abs(sheets["whole"] - sheets["parts"]).max() <= 1


def test_each_row_has_its_own_caption_and_the_same_noise(sheets):
    assert np.abs(sheets["whole"][0] - sheets["whole"][1]).mean() > 0.1
    assert np.abs(sheets["whole"] - sheets["exchanged"][::-1]).max() <= 1
