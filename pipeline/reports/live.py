"""Draw the running action on a terminal: what it does, progress, time left; below it, the pending actions."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

BAR_WIDTH = 12


class LiveLine:
    """Draw from the first action until `close`; finished lines scroll by above it."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        shrinks = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # truncated first on a narrow terminal
        self._progress = Progress(
            TextColumn("● {task.fields[name]}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR_WIDTH),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            TextColumn("{task.fields[detail]}", markup=False, table_column=shrinks),
            console=self._console,
            expand=True,
        )
        self._task: TaskID | None = None
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def start(self, name: str, reason: str, pending: str) -> None:
        """Begin the line of an action; `pending` names what comes after it."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(reason, total=None, name=name, detail="")
        rest = Text(f"○ {pending}" if pending else "", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(self._progress, rest))

    def advance(self, done: float, total: float, what: str, detail: str) -> None:
        """Move the bar of the running action."""
        if self._task is not None:
            self._progress.update(self._task, description=what, completed=done, total=total, detail=detail)

    def print(self, text: str) -> None:
        """Print a permanent line above the live ones."""
        # As Text, since rich would take `[…]` in a message for markup.
        self._console.print(Text(text), soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Remove the live lines."""
        self._live.stop()
