"""Show progress to people: one line per finished action, and on a terminal a live line; always on stderr.

Color carries no meaning. The terminal library (rich) is imported when the first action starts to run: a run that finds
everything cached never waits for it.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from pipeline.contracts.events import INTERRUPTED, Advanced, Event, Failed, Finished, Skipped, Started, Waiting, Warned
from pipeline.records.declared import every_metric, metrics_of_stages
from pipeline.records.metrics import MACS, MACS_UNKNOWN, Metric
from pipeline.reports.table import count, counted, shortened, size

if TYPE_CHECKING:
    from pipeline.reports.live import LiveLine

PLAIN_INTERVAL_S = 2.0  # between lines where there is no terminal, so that the logs of CI stay short
NAME_WIDTH = 28


class Progress:
    """Write events to a stream. Use it as a context manager, so that the terminal is restored."""

    def __init__(self, stream: TextIO, actions: list[str]) -> None:
        self._stream = stream
        self._pending = actions
        self._hits: list[str] = []
        self._skipped: dict[str, list[str]] = {}  # by reason
        self._last_line = ("", 0.0)
        self._live: LiveLine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        if self._live is not None:
            self._live.close()

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._last_line = ("", 0.0)
                self._start(event)
            case Advanced():
                self._advance(event)
            case Warned():
                self.line(f"! {event.action}: {event.message}")
            case Waiting():
                self.line(f"… {event.action}: another run is doing this; waiting for it")
            case Finished():
                self._finish(event)
            case Failed():
                self._fail(event)
            case Skipped():
                self._over(event.action)
                self._skipped.setdefault(event.reason, []).append(event.action)

    def line(self, text: str) -> None:
        """Write one line, above the live one if there is one."""
        if self._live is not None:
            self._live.print(text)
        else:
            print(text, file=self._stream, flush=True)

    def _start(self, event: Started) -> None:
        self._flush()
        if self._live is None and self._stream.isatty():
            from pipeline.reports.live import LiveLine

            self._live = LiveLine(self._stream)
        if self._live is not None:
            self._live.start(event.action, event.reason, counted(self._pending[1:]))

    def _advance(self, event: Advanced) -> None:
        if self._live is not None:
            self._live.advance(event.done, event.total, event.what, event.detail)
            return
        last, when = self._last_line
        now = time.monotonic()
        if event.what != last and now - when >= PLAIN_INTERVAL_S:
            self._last_line = (event.what, now)
            self.line(f"● {event.action}: {event.what} {event.detail}".rstrip())

    def _finish(self, event: Finished) -> None:
        self._over(event.action)
        if event.status == "hit":
            self._hits.append(event.action)
            return
        done = f"✔ {event.action.ljust(NAME_WIDTH)} {event.status:7} {event.wall_s:5.1f} s"
        self.line(f"{done}  {event.reason.ljust(22)}  {_figures(event.metrics)}".rstrip())

    def _fail(self, event: Failed) -> None:
        """Print the beginning of the error; the end of the run prints all of it."""
        self._flush()
        self._over(event.action)
        stopped = event.message == INTERRUPTED
        line = f"✘ {event.action.ljust(NAME_WIDTH)} {'stopped' if stopped else 'failed':7} {event.wall_s:5.1f} s"
        self.line(line if stopped else shortened(f"{line}  {event.message}"))

    def _over(self, action: str) -> None:
        if action in self._pending:
            self._pending.remove(action)

    def _flush(self) -> None:
        if self._hits:
            self.line(f"✔ {len(self._hits)} cached: {counted(self._hits)}")
            self._hits = []
        for reason, actions in self._skipped.items():
            self.line(f"- {len(actions)} skipped: {counted(actions)} ({reason})")
        self._skipped = {}


def _figures(metrics: dict[str, float]) -> str:
    """Return the few figures of an action that matter at a glance."""
    known = metrics_of_stages()
    if not metrics.keys() <= known.keys():
        known = every_metric()
    figures = {name: _said(metric, metrics[name]) for name, metric in known.items() if metric.told and name in metrics}
    if MACS_UNKNOWN.name in metrics and MACS.name in figures:
        figures[MACS.name] = f"at least {figures[MACS.name]}"
    return "   ".join(figures.values())


def _said(metric: Metric, value: float) -> str:
    in_unit = {"count": count, "bytes": size}.get(metric.unit)
    return str(metric.told).format(in_unit(value) if in_unit else value)
