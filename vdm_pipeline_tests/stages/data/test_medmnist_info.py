"""MedMNIST's table is read without the package's import, which writes to the home folder and loads torch."""

import os
import subprocess
import sys

from vdm_pipeline.stages.data.medmnist_info import medmnist_table

SCRIPT = """
import sys
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.medmnist_info import dataset_info
info = dataset_info(Data(dataset="pneumoniamnist", size=28, source="download"))
print(len(info.md5), "torch" in sys.modules)
"""


def test_the_table_is_that_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    from medmnist import INFO

    assert medmnist_table() == INFO


def test_the_home_folder_stays_empty(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["32", "False"], done.stderr
    assert list(tmp_path.iterdir()) == []
