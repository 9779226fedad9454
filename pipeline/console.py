"""Progress for people: on a terminal one line a finished action and the running one alive; elsewhere plain lines.

All of it goes to stderr. Colour carries no meaning alone.
"""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.events import Advanced, Event, Failed, Finished, Started, Waiting, Warned
from pipeline.summary import count

PLAIN_INTERVAL_S = 2.0
NAME_WIDTH = 26


class ProgressConsole:
    """A listener that draws. Use it as a context manager, so that the terminal is left as it was found."""

    def __init__(self, console: Console, actions: list[str]) -> None:
        self._console = console
        self._pending = actions
        self._hits: list[str] = []
        self._last_plain = ("", 0.0)
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("● {task.fields[name]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
        )
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush_hits()
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._flush_hits()
                self._start(event)
            case Advanced():
                self._advance(event)
            case Warned():
                self._print(f"! {event.action}: {event.message}")
            case Waiting():
                self._print(f"… {event.action}: another run is doing this; waiting for it")
            case Finished():
                self._finish(event)
            case Failed():
                self._flush_hits()
                self._stop_task()
                self._print(f"✘ {event.action.ljust(NAME_WIDTH)} failed {event.wall_s:6.1f} s")
        self._refresh()

    def _start(self, event: Started) -> None:
        if self._live:
            name = event.action.ljust(NAME_WIDTH)
            self._task = self._progress.add_task(event.reason, total=None, name=name, detail="")

    def _advance(self, event: Advanced) -> None:
        if self._live and self._task is not None:
            self._progress.update(
                self._task, description=event.what, completed=event.done, total=event.total, detail=event.detail
            )
            return
        last, when = self._last_plain
        now = time.monotonic()
        if event.what != last and now - when >= PLAIN_INTERVAL_S:
            self._last_plain = (event.what, now)
            self._print(f"● {event.action}: {event.what} {event.detail}".rstrip())

    def _finish(self, event: Finished) -> None:
        if event.action in self._pending:
            self._pending.remove(event.action)
        if event.status == "hit":
            self._hits.append(event.action)
            return
        self._stop_task()
        line = f"✔ {event.action.ljust(NAME_WIDTH)} {event.status:7} {event.wall_s:5.1f} s  {event.reason:28}"
        self._print(f"{line}  {_facts(event.metrics)}".rstrip())

    def _flush_hits(self) -> None:
        if self._hits:
            self._print(f"✔ {len(self._hits)} cached: {_counted(self._hits)}")
            self._hits = []

    def _stop_task(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True, highlight=False)

    def _refresh(self) -> None:
        if self._live:
            waiting = Text(f"○ {_counted(self._pending)}" if self._pending else "", no_wrap=True, overflow="ellipsis")
            self._live.update(Group(self._progress, waiting))


def _counted(actions: list[str]) -> str:
    """`load · evaluate ×2 · prune`."""
    kinds = Counter(action.partition(":")[0] for action in actions)
    return " · ".join(name if number == 1 else f"{name} ×{number}" for name, number in kinds.items())


def _facts(metrics: dict[str, float]) -> str:
    """The few figures of an action that one wants to see at once."""
    formats = {
        "params": ("{} params", count),
        "macs": ("{} MACs", count),
        "accuracy": ("acc {}", "{:.2%}".format),
        "equivalence_error": ("exact to {}", "{:.0e}".format),
        "max_abs_diff": ("max diff {}", "{:.1e}".format),
        "latency_p50_ms": ("p50 {} ms", "{:.3f}".format),
        "latency_ratio": ("ratio {}", "{:.3f}".format),
    }
    return "   ".join(text.format(show(metrics[name])) for name, (text, show) in formats.items() if name in metrics)
