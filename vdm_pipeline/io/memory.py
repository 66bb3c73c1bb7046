"""How much memory this process has taken."""

import re
import resource
import sys
from pathlib import Path

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> None:
    """Count the peak from now on, where the system can: Linux, unless a container forbids it."""
    try:
        CLEAR.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return


def peak_resident_mb() -> float:
    """Peak resident memory of this process since `forget_peak`, or in all where that is not known, MB; without a GPU's."""
    if STATUS.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1]) / 2**10  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, but bytes on macOS
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
