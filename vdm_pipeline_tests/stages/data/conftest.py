"""Fixtures for tests of archives."""

import pytest

from vdm_pipeline.stages.data.medmnist_info import medmnist_table
from vdm_pipeline_tests.stages.data.archives import COUNTS, MD5


@pytest.fixture
def tinymnist(monkeypatch) -> dict:
    """The entry of the data set ``tinymnist`` in MedMNIST's table."""
    info = {
        "url": "http://127.0.0.1:9/none",
        "MD5": MD5,
        "task": "binary-class",
        "label": {"0": "normal", "1": "pneumonia"},
        "n_channels": 1,
        "n_samples": dict(COUNTS),
        "license": "CC0",
    }
    monkeypatch.setitem(medmnist_table(), "tinymnist", info)
    return info
