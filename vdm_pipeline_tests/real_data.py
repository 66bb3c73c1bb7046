"""The real archive, for tests marked ``real_data``."""

import os
from pathlib import Path

import pytest

REAL_ARCHIVE = Path(os.environ.get("VDM_REAL_DATA") or "not-set")
needs_real_archive = pytest.mark.skipif(
    not REAL_ARCHIVE.is_file(), reason="set VDM_REAL_DATA to a pneumoniamnist.npz of 28 pixels"
)
