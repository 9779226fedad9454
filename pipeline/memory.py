"""When memory is searched for what nobody needs: between actions, and not while a network is being built."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager


def give_back() -> None:
    """Collect what the last action left in cycles, and return free heap pages (glibc keeps them otherwise)."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc: its allocator has no such call
        return


@contextmanager
def collection_paused() -> Iterator[None]:
    """Meanwhile no search for garbage: what makes many objects that stay would be searched again and again in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
