"""How long work reports its progress, and how often."""

import time
from collections.abc import Callable

Log = Callable[[str], None]
"""Takes one line of text."""
Progress = Callable[[int, int], None]
"""Takes how many of how many units are done."""


class Throttle:
    """Limits progress lines to one every ``seconds``."""

    def __init__(self, seconds: float = 5.0) -> None:
        """The first line is due ``seconds`` from now."""
        self.seconds, self._last = seconds, time.monotonic()

    def due(self, *, done: bool = False) -> bool:
        """Whether to report now: ``seconds`` after the last report, or if all is done."""
        if not done and time.monotonic() - self._last < self.seconds:
            return False
        self._last = time.monotonic()
        return True
