"""What is shown goes to a screen: a terminal with live bars, or a plain stream of few lines."""

import atexit
import io
import os
import sys
from typing import Literal, Protocol

from rich.console import Console, ConsoleDimensions

Kind = Literal["good", "up to date", "warning", "bad"]
MARKS: dict[Kind, tuple[str, str]] = {
    "good": ("✓", "green"),
    "up to date": ("✓", "dim green"),
    "warning": ("!", "yellow"),
    "bad": ("✗", "bold red"),
}
"""Mark and style of a line."""


class Screen(Protocol):
    """Shows lines, and the progress of Dagster's steps."""

    def line(self, kind: Kind, asset: str, text: str) -> None:
        """A marked line about an asset."""

    def text(self, text: str, style: str = "") -> None:
        """A line about the run."""

    def up_to_date(self, asset: str) -> None:
        """An asset was skipped."""

    def passed(self, asset: str, checks: int) -> None:
        """So many checks of an asset passed."""

    def start(self, step: str, asset: str, text: str) -> None:
        """A step of an asset starts."""

    def progress(self, step: str, text: str, done: int, total: int | None, at: float) -> None:
        """A step reported ``text`` at the Unix time ``at``, with a count if ``total`` is known."""

    def finish(self, step: str) -> None:
        """A step ended."""

    def close(self) -> None:
        """The run ended: show what was held back, and give the cursor back."""


class _Output(io.TextIOWrapper):
    """A stream whose reader may go away: a run continues when its terminal is closed."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            return

    def close(self) -> None:
        try:
            super().close()
        except OSError:
            return


class _Console(Console):
    """A console as wide as its own terminal: rich asks stderr, which Dagster redirects in a step."""

    @property  # type: ignore[misc]  # rich lets its users set the size; nothing here does
    def size(self) -> ConsoleDimensions:
        if not self.file.isatty():
            return super().size
        columns, lines = os.get_terminal_size(self.file.fileno())
        return ConsoleDimensions(columns or 80, lines or 25)


def open_console() -> Console:
    """A console on a duplicate of stderr, as Dagster redirects stderr to a file while a step runs."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # stderr is not a file, as in a notebook or a test
        return Console(file=sys.stderr, width=110, highlight=False, markup=False, emoji=False)
    binary = io.BufferedWriter(io.FileIO(descriptor, "w"))
    output = _Output(binary, encoding=sys.stderr.encoding, errors="replace")
    atexit.register(output.close)  # the last lines are shown at exit, too
    return _Console(file=output, highlight=False, markup=False, emoji=False)


def can_move_cursor(console: Console) -> bool:
    """Whether the console is a terminal that can overwrite its lines."""
    return console.file.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def printable(text: str) -> str:
    """The text without control characters, which would move the cursor or recolour the terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def duration(seconds: float) -> str:
    """A time as a reader says it: ``< 0.1 s``, ``0.4 s``, ``12 s``, ``2 min 5 s``, ``3 h 12 min``."""
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def plural(n: int, noun: str) -> str:
    """The number and its noun, as in ``2 warnings``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
