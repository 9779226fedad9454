"""Remember a request to stop: C++ code that calls back into Python can swallow a KeyboardInterrupt.

The command line's signal handlers call `request`; the runner calls `check` between actions, and progress calls it at
every step, so that a swallowed interruption is raised again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_requested = threading.Event()
_stepwise = threading.Event()


def request(_signal: int, _frame: FrameType | None) -> None:
    """Handle a signal: remember it, and raise at once; inside `between_steps` only the second time."""
    # A second request does not wait for the end of the step, which may be long (docs/design/training.md).
    again = _requested.is_set()
    _requested.set()
    if again or not _stepwise.is_set():
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if it was requested before."""
    if _requested.is_set():
        raise KeyboardInterrupt


def forget() -> None:
    """Forget a request, for a process that goes on after it was interrupted."""
    _requested.clear()


@contextmanager
def between_steps() -> Iterator[None]:
    """Delay a first request inside until the next `check`, which the work makes after each of its steps."""
    _stepwise.set()
    try:
        yield
    finally:
        _stepwise.clear()
    check()
