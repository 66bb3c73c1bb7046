"""Peak memory of this process."""

import re
import resource
import sys
from pathlib import Path

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak_memory() -> None:
    """Measure the peak from now on. Works on Linux, unless a container forbids it; no effect elsewhere."""
    try:
        CLEAR_REFS.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return


def peak_resident_mb() -> float:
    """Peak resident memory since `reset_peak_memory` (or since the start, where that has no effect), MB.

    GPU memory is not included.
    """
    if STATUS.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1]) / 2**10  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, but bytes on macOS
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
