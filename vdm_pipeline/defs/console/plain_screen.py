"""Few plain lines: for pipes, files, CI, and the processes of the daemon."""

from rich.console import Console
from rich.text import Text

from vdm_pipeline.defs.console.screen import MARKS, Kind, printable

PROGRESS_S = 30.0
"""Seconds between two progress lines of a step."""
PROGRESS_SHARE = 0.1
"""Of a long step's time so far, if that is more: a step of ten hours shows some 70 lines."""


class PlainScreen:
    """One line for each computed asset, warning and failure; one for all assets that are up to date."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._up_to_date: list[str] = []
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def line(self, kind: Kind, asset: str, text: str) -> None:
        """A marked line about an asset."""
        self._show_up_to_date()
        mark, style = MARKS[kind]
        self.text(f"{mark} {asset}: {text}" if asset else f"{mark} {text}", style)

    def text(self, text: str, style: str = "") -> None:
        """A line about the run; a pipe has no width, so it is not wrapped."""
        self.console.print(Text(printable(text), style), soft_wrap=True)

    def up_to_date(self, asset: str) -> None:
        """Held back until something else is shown."""
        self._up_to_date.append(asset)

    def passed(self, asset: str, checks: int) -> None:
        """Not shown: the summary counts them."""

    def start(self, step: str, asset: str, text: str) -> None:
        """Not shown: its result or its progress will be."""

    def progress(self, step: str, text: str, done: int, total: int | None, at: float) -> None:
        """Shown if the step's last progress was long ago."""
        first = self._first.setdefault(step, at)
        last = self._last.setdefault(step, at)
        if at - last >= max(PROGRESS_S, PROGRESS_SHARE * (at - first)):
            self._last[step] = at
            self._show_up_to_date()
            self.text(f"  {step}: {text}")

    def finish(self, step: str) -> None:
        """Nothing to remove."""

    def close(self) -> None:
        """Show the assets that were held back."""
        self._show_up_to_date()

    def _show_up_to_date(self) -> None:
        if self._up_to_date:
            names, self._up_to_date = ", ".join(self._up_to_date), []
            self.text(f"✓ up to date: {names}")
