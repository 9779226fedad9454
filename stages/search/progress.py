"""Show how far a study is: a line whenever that changes; on a terminal the last one is replaced."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, TextIO

from pipeline.reports.table import shortened
from stages.search.study import Status

PHASES = {
    "source": "measuring the source",
    "control": "training the control",
    "file": "finding the fastest file",
    "fitted": "pruned and re-fitted",
    "border": "bisecting",
    "gaps": "filling the front",
    "explored": "exploring",
    "measured": "measuring the best",
}
LINE_S = 10.0  # between lines where there is no terminal


class StudyProgress:
    """Write a study's status to a stream. Use it as a context manager, so that its live line ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._live = stream, stream.isatty()
        self._open = False  # the live line
        self._phase, self._when = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, status: Status) -> None:
        text, now = line_of(status), time.monotonic()
        if self._live:
            print(f"\r\x1b[2K{shortened(text)}", end="", file=self._stream, flush=True)
            self._open = True
        elif status.phase != self._phase or now - self._when >= LINE_S:
            print(text, file=self._stream, flush=True)
            self._phase, self._when = status.phase, now

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._close()
        print(text, file=self._stream, flush=True)

    def _close(self) -> None:
        if self._open:
            print(file=self._stream, flush=True)
        self._open = False


def line_of(status: Status) -> str:
    """Return `● exploring: 14 of 40 trials · 3 trained · 5 given up · best 0.48 of the source's cost · 11:00 left`."""
    parts = [f"{len(status.trials)} of {status.most_trials} trials"]
    numbers = {
        "running": status.running,
        "trained": sum(trial.at("trained") is not None for trial in status.trials),
        "given up": sum(trial.ended == "pruned" for trial in status.trials),
        "failed": sum(trial.ended == "failed" for trial in status.trials),
    }
    parts += [f"{number} {word}" for word, number in numbers.items() if number]
    reached = status.best.best_known if status.best is not None else None
    if reached is not None and reached.share is not None and reached.drop is not None:
        parts.append(f"best {reached.share:.2f} of the source's cost at {-100 * reached.drop:+.1f} points")
    parts.append(f"{int(status.left_s) // 60}:{int(status.left_s) % 60:02d} left")
    return f"● {PHASES.get(status.phase, status.phase)}: {' · '.join(parts)}"
