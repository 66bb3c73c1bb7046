"""The peak is that of what came after it was forgotten."""

import numpy as np
import pytest

from vdm_pipeline.io.memory import CLEAR, forget_peak, peak_resident_mb


@pytest.mark.skipif(not CLEAR.exists(), reason="this system cannot forget a peak")
def test_a_peak_is_forgotten_and_a_new_one_seen():
    array = np.ones(64 * 2**20 // 8)
    high = peak_resident_mb()
    del array
    forget_peak()
    low = peak_resident_mb()
    assert high - low > 48
    array = np.ones(32 * 2**20 // 8)
    assert 24 < peak_resident_mb() - low < 48
    del array
