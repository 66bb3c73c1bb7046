"""Peak memory is measured from the last reset on."""

import subprocess
import sys

import pytest

from vdm_pipeline.io.memory import CLEAR_REFS

SCRIPT = """
import numpy as np
from vdm_pipeline.io.memory import reset_peak_memory, peak_resident_mb
array = np.ones(64 * 2**20 // 8)
high = peak_resident_mb()
del array
reset_peak_memory()
low = peak_resident_mb()
array = np.ones(32 * 2**20 // 8)
print(high - low, peak_resident_mb() - low)
"""


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="this system cannot reset the peak")
def test_peak_is_reset_and_measured_again():
    """In its own process: pages that earlier tests freed may be used again without a new peak."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    fell, rose = map(float, done.stdout.split())
    assert fell > 48 and 24 < rose < 48
