"""A terminal: a line for each asset and its checks, and below them a live bar for each running step."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from vdm_pipeline.defs.console.screen import MARKS, Kind, plural, printable

NARROW = 60
"""Columns below which names are not aligned, and progress has neither bar nor text."""
ROOM = 3
"""Columns that stay free after the bars, where the terminal writes ``^C``."""


class _WithRoom:
    """Something narrower than the terminal."""

    def __init__(self, content: RenderableType) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.content, options.update_width(options.max_width - ROOM))


class _Bars(Progress):
    def get_renderable(self) -> RenderableType:
        return _WithRoom(super().get_renderable())


class LiveScreen:
    """Prints lines above the live bars of the running steps. `close` removes the bars."""

    def __init__(self, console: Console, assets: Sequence[str]) -> None:
        self.console = console
        self._name_width = max(map(len, assets), default=0)
        self._bars = _Bars(
            *_columns(console.width, self._name_width),
            console=console,
            transient=True,
            redirect_stdout=False,  # Dagster captures them, and our console writes elsewhere
            redirect_stderr=False,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def line(self, kind: Kind, asset: str, text: str) -> None:
        """A marked line about an asset; it wraps below its own text."""
        mark, style = MARKS[kind]
        grid = Table.grid(padding=(0, 1))
        body = Text(printable(text), "" if kind == "good" else style)
        if self.console.width < NARROW:
            grid.add_row(Text(mark, style), Text.assemble(asset, "  " if asset else "", body))
        else:
            grid.add_row(Text(mark, style), Text(asset.ljust(self._name_width)), body)
        self.console.print(grid)

    def text(self, text: str, style: str = "") -> None:
        """A line about the run. It may be a path, which must stay whole to be copied."""
        self.console.print(Text(printable(text), style), soft_wrap=True)

    def up_to_date(self, asset: str) -> None:
        """A dim line."""
        self.line("up to date", asset, "up to date")

    def passed(self, asset: str, checks: int) -> None:
        """A line with the number of passed checks."""
        self.line("up to date", asset, f"{plural(checks, 'check')} passed")

    def start(self, step: str, asset: str, text: str) -> None:
        """A bar without an end, until the step reports a count."""
        self._tasks[step] = self._bars.add_task(asset, total=None, note=text)

    def progress(self, step: str, text: str, done: int, total: int | None, at: float) -> None:
        """Move the step's bar, or show its text beside it."""
        if step not in self._tasks:
            return
        if total:
            self._bars.update(self._tasks[step], completed=done, total=total, note=printable(text))
        else:
            self._bars.update(self._tasks[step], note=printable(text))

    def finish(self, step: str) -> None:
        """Remove the step's bar."""
        if step in self._tasks:
            self._bars.remove_task(self._tasks.pop(step))

    def close(self) -> None:
        """Remove all bars and show the cursor."""
        self._bars.stop()


def _columns(width: int, name_width: int) -> list[ProgressColumn]:
    """Spinner, step, bar, seconds, and what the step reported last."""
    name = TextColumn("{task.description}", table_column=Column(min_width=name_width, no_wrap=True))
    if width < NARROW:
        return [SpinnerColumn(style="cyan"), name, TimeElapsedColumn()]
    note = TextColumn("{task.fields[note]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    bar = BarColumn(20, complete_style="cyan", finished_style="cyan", pulse_style="cyan")
    return [SpinnerColumn(style="cyan"), name, bar, TimeElapsedColumn(), note]
