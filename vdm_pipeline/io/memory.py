"""How much memory this process has taken."""

import resource
import sys


def peak_resident_mb() -> float:
    """Peak resident memory of this process so far, MB; Linux counts in kB, macOS in bytes. Memory of a GPU is not in it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
