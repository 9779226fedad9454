"""Show how far a study is: a line whenever that changes; on a terminal the last one is replaced."""

from __future__ import annotations

import time
from typing import TextIO

from stages.search.study import Status

PHASES = {
    "control": "training the control",
    "fitted": "pruned and re-fitted",
    "border": "bisecting",
    "explored": "exploring",
    "measured": "measuring the best",
}
LINE_S = 10.0  # between lines where there is no terminal


class StudyProgress:
    """Write a study's status to a stream."""

    def __init__(self, stream: TextIO, goal: str) -> None:
        self._stream, self._live = stream, stream.isatty()
        self._last, self._when = "", 0.0
        print(f"goal: {goal}", file=stream, flush=True)

    def __call__(self, status: Status) -> None:
        text, now = line_of(status), time.monotonic()
        if self._live:
            print(f"\r\x1b[2K{text}", end="", file=self._stream, flush=True)
        elif status.phase != self._last or now - self._when >= LINE_S:
            print(text, file=self._stream, flush=True)
            self._last, self._when = status.phase, now

    def said(self, text: str) -> None:
        """Write what comes after the search."""
        self.close()
        print(f"● {text}", file=self._stream, flush=True)

    def close(self) -> None:
        """End the live line."""
        if self._live:
            print(file=self._stream, flush=True)


def line_of(status: Status) -> str:
    """Return `● exploring: 14 of 40 trials · 3 trained · 5 given up · best 0.48 of the source's cost · 11:00 left`."""
    parts = [f"{status.trials} of {status.most_trials} trials"]
    parts += [f"{status.running} running"] if status.running else []
    parts += [f"{status.trained} trained"] if status.trained else []
    parts += [f"{status.pruned} given up"] if status.pruned else []
    parts += [f"{status.failed} failed"] if status.failed else []
    reached = status.best.best_known if status.best is not None else None
    if reached is not None and reached.share is not None and reached.drop is not None:
        parts.append(f"best {reached.share:.2f} of the source's cost at {-100 * reached.drop:+.1f} points")
    parts.append(f"{int(status.left_s) // 60}:{int(status.left_s) % 60:02d} left")
    return f"● {PHASES.get(status.phase, status.phase)}: {' · '.join(parts)}"
