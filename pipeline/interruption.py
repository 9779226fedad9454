"""Being asked to stop. C++ code that calls back into Python can swallow a KeyboardInterrupt: so it is also remembered.

The command line's signal handlers call `request`; the runner asks `check` between actions, and progress asks it at
every step, so that an interruption that was lost on its way is raised again.
"""

from __future__ import annotations

import threading
from types import FrameType

_requested = threading.Event()


def request(_signal: int, _frame: FrameType | None) -> None:
    """A signal handler: remember, and raise where the main thread is now."""
    _requested.set()
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if it was requested before."""
    if _requested.is_set():
        raise KeyboardInterrupt
