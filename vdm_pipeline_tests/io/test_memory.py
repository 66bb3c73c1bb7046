"""The peak is that of what came after it was forgotten."""

import subprocess
import sys

import pytest

from vdm_pipeline.io.memory import CLEAR

TAKE = """
import numpy as np
from vdm_pipeline.io.memory import forget_peak, peak_resident_mb
array = np.ones(64 * 2**20 // 8)
high = peak_resident_mb()
del array
forget_peak()
low = peak_resident_mb()
array = np.ones(32 * 2**20 // 8)
print(high - low, peak_resident_mb() - low)
"""


@pytest.mark.skipif(not CLEAR.exists(), reason="this system cannot forget a peak")
def test_a_peak_is_forgotten_and_a_new_one_seen():
    """In a process of its own: what others have taken and given back may be taken again without a new peak."""
    done = subprocess.run([sys.executable, "-c", TAKE], capture_output=True, text=True, check=True)
    fell, rose = map(float, done.stdout.split())
    assert fell > 48 and 24 < rose < 48
