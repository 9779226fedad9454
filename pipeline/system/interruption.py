"""Being asked to stop. C++ code that calls back into Python can swallow a KeyboardInterrupt: so it is also remembered.

The command line's signal handlers call `request`; the runner asks `check` between actions, and progress asks it at
every step, so that an interruption that was lost on its way is raised again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_requested = threading.Event()
_stepwise = threading.Event()


def request(_signal: int, _frame: FrameType | None) -> None:
    """A signal handler: remember, and raise where the main thread is now; among steps only the second time."""
    again = _requested.is_set()
    _requested.set()
    if again or not _stepwise.is_set():
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if it was requested before."""
    if _requested.is_set():
        raise KeyboardInterrupt


@contextmanager
def between_steps() -> Iterator[None]:
    """Inside, a first request waits for the next `check`, which the work makes after each of its steps."""
    _stepwise.set()
    try:
        yield
    finally:
        _stepwise.clear()
    check()
